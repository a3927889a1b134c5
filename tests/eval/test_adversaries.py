"""Adversaries reconstruct, side by side as one by one."""

import pytest
import torch

from mipoison.eval.adversaries.attack import adaptive_lookups, adaptive_networks, standard
from mipoison.eval.adversaries.base import features
from mipoison.eval.adversaries.decoder import Decoder
from mipoison.eval.adversaries.lookups import LabelOnly, NearestNeighbours
from mipoison.eval.adversaries.mlp import MLP
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.metrics import LOSSES, ssim


@pytest.fixture(scope="module")
def queries():
    generator = torch.Generator().manual_seed(0)
    served = torch.softmax(2 * torch.randn(120, 5, generator=generator), dim=1)
    inputs = (served @ torch.rand(5, 12, generator=generator)).clamp(0, 1)
    return served, inputs


def everyone():
    return [
        LabelOnly(),
        NearestNeighbours(neighbours=3),
        NearestNeighbours(neighbours=3, kind="log"),
        MLP(width=16, epochs=3),
        MLP(width=16, epochs=3, kind="raw+log"),
        MLP(width=16, epochs=3, loss="l1", name="l1"),
        MLP(width=16, epochs=3, loss="mse+ssim", image_shape=(3, 4), name="ssim"),
        Decoder(image_shape=(3, 4), channels=8, epochs=3),
        Decoder(image_shape=(3, 4), channels=8, epochs=3, kind="top-2"),
    ]


@pytest.mark.parametrize("adversary", everyone(), ids=lambda one: one.name)
def test_side_by_side_equals_one_by_one(adversary, queries):
    served, inputs = queries
    rounded = served.round(decimals=1)
    both = adversary.fit(torch.stack([served, rounded]), inputs)
    stacked = both.reconstruct(torch.stack([served, rounded]))
    assert stacked.shape == (2, 120, 12)
    for system, vectors in enumerate((served, rounded)):
        alone = adversary.fit(vectors, inputs).reconstruct(vectors)
        torch.testing.assert_close(alone, stacked[system], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("adversary", everyone(), ids=lambda one: one.name)
def test_vertices_and_zeros_are_reconstructed_inside_the_pixel_range(adversary, queries):
    served, inputs = queries
    adversary.fit(served, inputs)
    pixels = adversary.reconstruct(torch.eye(5))
    assert pixels.isfinite().all() and pixels.min() >= 0 and pixels.max() <= 1


def test_network_learns_a_linear_map(queries):
    served, inputs = queries
    network = MLP(width=32, epochs=60, batch=16).fit(served, inputs, held_out=queries)
    spread = (inputs - inputs.mean(0)).square().mean()
    assert (network.reconstruct(served) - inputs).square().mean() < 0.05 * spread
    assert len(network.curves["train"]) == len(network.curves["held_out"]) == 60
    assert network.curves["held_out"][-1][0] < network.curves["held_out"][0][0]


def test_network_repeats_itself_and_heeds_its_seed(queries):
    served, inputs = queries

    def reconstruct(seed):
        return MLP(width=16, epochs=2, seed=seed).fit(served, inputs).reconstruct(served)

    assert torch.equal(reconstruct(5), reconstruct(5))
    assert not torch.equal(reconstruct(5), reconstruct(6))


def test_member_is_the_network_of_one_system(queries):
    served, inputs = queries
    both = MLP(width=16, epochs=2).fit(torch.stack([served, served.flip(0)]), inputs)
    stacked = both.reconstruct(torch.stack([served, served]))
    torch.testing.assert_close(both.member(1).reconstruct(served), stacked[1])


def test_a_feature_constant_in_training_is_ignored_later(queries):
    served, inputs = queries
    held = torch.cat([served, torch.zeros(120, 1)], dim=1)
    network = MLP(width=16, epochs=2).fit(held, inputs)
    other = held.clone()
    other[:, -1] = 0.1
    assert torch.equal(network.reconstruct(held), network.reconstruct(other))


def test_label_only_answers_unseen_labels_with_the_mean():
    adversary = LabelOnly().fit(
        torch.tensor([[0.9, 0.1], [0.8, 0.2]]), torch.tensor([[0.0], [1.0]])
    )
    assert adversary.reconstruct(torch.tensor([[0.2, 0.8]])).tolist() == [[0.5]]


def test_nearest_neighbours_need_enough_rows(queries):
    with pytest.raises(ValueError, match="expected at most the 120 rows given, got 121"):
        NearestNeighbours(neighbours=121).fit(*queries)


def test_features():
    vectors = torch.tensor([[1.0, 0.0]])
    assert features(vectors, "raw+log").isfinite().all()
    with pytest.raises(ValueError, match=r"'raw\+log', got 'cubes'"):
        features(vectors, "cubes")


def test_families_have_the_announced_variants():
    settings = AdversarySettings(neighbours=(10, 25))
    assert standard(settings, seed=0, stretch=2).epochs == 2 * settings.epochs
    networks = adaptive_networks(settings, seed=0)
    assert [net.kind for net in networks.values()] == ["raw", "raw+log", "raw+log"]
    assert [net.log_floor for net in networks.values()] == [1e-6, 1e-6, 1e-30]
    names = [["10-NN, raw", "25-NN, raw"], ["10-NN, log", "25-NN, log"]]
    assert [[one.name for one in alike] for alike in adaptive_lookups(settings)] == names


def test_what_small_entries_tell_is_found():
    """The inputs are the logarithm of an entry between 1e-20 and 1e-10, which the usual floor hides."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand((600, 1), generator=generator)
    small = 10 ** (-20 + 10 * inputs)
    served = torch.cat((1 - small, small), 1)
    settings = AdversarySettings(wide_width=32, wide_epochs=20)
    errors = {}
    for name, network in adaptive_networks(settings, seed=0).items():
        network.fit(served[:400], inputs[:400])
        made = network.reconstruct(served[400:])
        errors[name] = float((made - inputs[400:]).square().mean())
    deep = errors.pop("wide MLP, raw+log to 1e-30")
    assert deep < 0.1 * min(errors.values())


def test_decoders_are_an_extra_of_the_families():
    settings = AdversarySettings(deep_floor=None, decoders=("raw+log", "top-3"), decoder_epochs=5)
    networks = adaptive_networks(settings, seed=0, stretch=2, image_shape=(8, 8))
    assert list(networks)[2:] == ["decoder, raw+log", "decoder, top-3"]
    assert networks["decoder, top-3"].epochs == 10
    with pytest.raises(ValueError, match="image_shape: expected"):
        adaptive_networks(settings, seed=0)


def test_each_loss_is_what_its_network_does_best():
    """Half of the inputs of one vector are 0 and the others spread: their mean is no median."""
    generator = torch.Generator().manual_seed(0)
    served = torch.full((400, 3), 1 / 3)
    inputs = torch.rand((400, 12), generator=generator)
    inputs[:240] = 0.1 * inputs[:240]
    made = {}
    for loss in LOSSES:
        network = MLP(
            width=16, epochs=60, batch=50, learning_rate=2e-2, loss=loss, image_shape=(3, 4)
        )
        made[loss] = network.fit(served, inputs).reconstruct(served)
    absolute = {loss: float((pixels - inputs).abs().mean()) for loss, pixels in made.items()}
    squared = {loss: float((pixels - inputs).square().mean()) for loss, pixels in made.items()}
    assert absolute["l1"] < 0.9 * absolute["mse"] and squared["mse"] < 0.9 * squared["l1"]
    structure = {loss: ssim(pixels, inputs, image_shape=(3, 4)) for loss, pixels in made.items()}
    assert structure["mse+ssim"] >= structure["mse"] - 1e-3


@pytest.mark.parametrize(
    ("given", "said"),
    [({"loss": "l2"}, "expected one of mse, l1, mse"), ({"loss": "mse+ssim"}, "height and width")],
)
def test_unknown_losses_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        MLP(**given)


def test_of_equally_near_rows_the_first_are_averaged():
    """As a stable sort of all distances has it, for every row and system."""
    generator = torch.Generator().manual_seed(0)
    # Few different vectors, so that most distances are shared.
    vectors = torch.nn.functional.one_hot(torch.randint(4, (2, 60), generator=generator)).float()
    asked = torch.softmax(torch.randn(2, 9, 4, generator=generator), -1)
    inputs = torch.rand(60, 6, generator=generator)
    found = NearestNeighbours(neighbours=7).fit(vectors, inputs).reconstruct(asked)
    distances = torch.cdist(asked, vectors, compute_mode="donot_use_mm_for_euclid_dist")
    order = distances.argsort(dim=-1, stable=True)[..., :7]
    torch.testing.assert_close(found, inputs[order].mean(-2))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"epochs": 0}, "epochs: expected at least 1, got 0"),
        ({"held_out": 0}, "held_out: expected at least 1, got 0"),
        ({"neighbours": ()}, "neighbours: expected numbers >= 1"),
        ({"learning_rate": float("nan")}, "learning_rate: expected a number > 0, got nan"),
        ({"log_floor": 0.0}, "log_floor: expected a number between 0 and 1, got 0.0"),
        ({"deep_floor": 1.0}, "deep_floor: expected a number between 0 and 1, got 1.0"),
        ({"losses": ("mse",)}, "losses: expected further ones than 'mse'"),
        ({"losses": ("huber",)}, "got 'huber'"),
        (
            {"decoders": ("top-0",)},
            "decoders: expected 'raw', 'log', 'raw.log' or 'top-M', got 'top-0'",
        ),
    ],
)
def test_settings_out_of_range_are_refused(given, said):
    with pytest.raises(ValueError, match=said):
        AdversarySettings(**given)
