"""The convolutional decoder reads what Yang et al. let it read, and learns."""

import pytest
import torch

from mipoison.eval.adversaries.decoder import Decoder, truncated_logs


@pytest.fixture(scope="module")
def queries():
    generator = torch.Generator().manual_seed(0)
    served = torch.softmax(2 * torch.randn(160, 5, generator=generator), dim=1)
    patterns = torch.rand(5, 54, generator=generator)
    return served, (served @ patterns).clamp(0, 1)


def test_truncated_logs_by_hand():
    read = truncated_logs(torch.tensor([[0.5, 0.3, 0.2]]), 2)[0]
    logs = torch.tensor([0.5, 0.3]).log() + 50
    torch.testing.assert_close(read, torch.tensor([*logs, 0.0]))


def test_a_row_with_zeros_is_lifted_from_the_floor():
    read = truncated_logs(torch.tensor([[0.0, 1.0, 0.0], [0.2, 0.2, 0.6]]), 3)
    assert read[0].tolist() == [0.0, 1000.0, 0.0]
    torch.testing.assert_close(read[1], torch.tensor([0.2, 0.2, 0.6]).log() + 50)


def test_entries_beyond_the_top_are_not_read(queries):
    served, inputs = queries
    decoder = Decoder(image_shape=(6, 9), channels=8, epochs=1, kind="top-2").fit(served, inputs)
    order = served.argsort(1)
    smallest = served.gather(1, order[:, :3])
    other = served.scatter(1, order[:, :3], smallest.mean(1, keepdim=True).expand(-1, 3))
    assert not torch.equal(other, served)
    assert torch.equal(decoder.reconstruct(other), decoder.reconstruct(served))
    whole = Decoder(image_shape=(6, 9), channels=8, epochs=1).fit(served, inputs)
    assert not torch.equal(whole.reconstruct(other), whole.reconstruct(served))


def test_decoder_learns(queries):
    served, inputs = queries
    seen, held = (served[:120], inputs[:120]), (served[120:], inputs[120:])
    decoder = Decoder(image_shape=(6, 9), channels=16, epochs=40, batch=16)
    decoder.fit(*seen, held_out=held)
    spread = (held[1] - seen[1].mean(0)).square().mean()
    error = (decoder.reconstruct(held[0]) - held[1]).square().mean()
    assert error < 0.3 * spread
    assert decoder.curves["held_out"][-1][0] == pytest.approx(float(error), rel=1e-5)
    assert len(decoder.curves["train"]) == 40


@pytest.mark.parametrize("held", [True, False])
def test_a_decoder_that_diverges_is_told(held, queries):
    decoder = Decoder(image_shape=(6, 9), channels=2, epochs=1, learning_rate=float("inf"))
    with pytest.warns(RuntimeWarning, match=r"expected finite errors, got none from 1 of 1"):
        decoder.fit(*queries, held_out=queries if held else None)


@pytest.mark.parametrize("shape", [(6, 9), (28, 28), (1, 5)])
def test_images_of_any_shape_are_covered(shape, queries):
    served, _ = queries
    inputs = torch.rand(160, shape[0] * shape[1], generator=torch.Generator().manual_seed(1))
    decoder = Decoder(image_shape=shape, channels=4, epochs=1).fit(served, inputs)
    assert decoder.reconstruct(served).shape == inputs.shape


def test_decoder_repeats_itself_and_leaves_the_global_generator_alone(queries):
    served, inputs = queries

    def reconstruct(seed):
        decoder = Decoder(image_shape=(6, 9), channels=4, epochs=1, seed=seed)
        return decoder.fit(served, inputs).reconstruct(served)

    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    first = reconstruct(5)
    assert torch.equal(torch.rand(1), expected)
    assert torch.equal(first, reconstruct(5)) and not torch.equal(first, reconstruct(6))


def test_member_attacks_any_number_of_systems(queries):
    served, inputs = queries
    both = Decoder(image_shape=(6, 9), channels=4, epochs=1)
    both.fit(torch.stack([served, served.flip(0)]), inputs)
    second = both.reconstruct(torch.stack([served, served]))[1]
    assert torch.equal(both.member(1).reconstruct(served), second)
    three = both.member(1).reconstruct(served.expand(3, -1, -1))
    assert torch.equal(three, second.expand(3, -1, -1))
