"""The certificate: bounds that miss no more often than they say, and answers that hide what they tell."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from later import fewer, later, unless
from torch import Tensor

import mipoison as mp
from mipoison.certificates.betting import lower_bound
from mipoison.defenses import LabelOnly, LaplaceNoise, Rounding

REPETITIONS = fewer(200, 1000)
LEVEL = 0.05
F64 = torch.float64


def uniform(n: int, *shape: int, generator: torch.Generator) -> Tensor:
    return torch.rand(n, *shape, generator=generator, dtype=F64)


def test_the_bound_is_close_where_pairs_are_many() -> None:
    """Numbers like the squared differences of two pictures: their deviation is a seventh of their mean."""
    generator = torch.Generator().manual_seed(100)
    for n, least in ((500, 0.95), (1500, 0.97), (20_000, 0.99)):
        pairs = 0.1 * uniform(n, 8, generator=generator).mean(1) + 0.02
        assert (
            least
            < lower_bound(pairs[None], torch.full((n,), 2.0, dtype=F64), 0, 0.95) / 0.07
            < 1.01
        )


# Inputs of one number, and their variance.
NUMBERS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "coin": (lambda u: 1.0 * (u < 0.3), 0.21),
    "uniform": (lambda u: u, 1 / 12),
    "rarely large": (lambda u: 1.0 * (u < 0.01), 0.0099),
    "small": (lambda u: 0.5 + 0.02 * u, 0.02**2 / 12),
    "constant": (lambda u: 0.5 + 0 * u, 0.0),
}


# Answers of which many have one row or three, where the pair of three counts for all of them; or half of the rows have
# an answer of their own, which tells their input.
@pytest.mark.parametrize("told", [False, True])
@pytest.mark.parametrize("n", [60, *later(5, 300)])
@pytest.mark.parametrize("name", unless(("coin",), NUMBERS))
def test_rare_answers_make_the_bound_miss_no_more_often(name: str, n: int, told: bool) -> None:
    make, variance = NUMBERS[name]
    generator = torch.Generator().manual_seed(100)
    missed = 0
    for repetition in range(REPETITIONS):
        answer = torch.randint(n // 2, (n,), generator=generator)
        if told:
            answer = torch.where(answer < n // 4, 0, 1 + torch.arange(n))
        lead = (0.9 - 1e-3 * answer.to(F64)).unsqueeze(1)
        p, x = torch.cat((lead, 1 - lead), 1), make(uniform(n, 1, generator=generator))
        mse = mp.certify(p, p, x, confidence=1 - LEVEL, seed=repetition).mse
        share = (n // 4) / (n // 2) if told else 1.0
        missed += mse > share * variance + 1e-12
    assert missed <= LEVEL * REPETITIONS


class World:
    """Inputs of two numbers behind answers: uniform in a square whose place and width the answer tells.

    Args:
        widths: of the square behind each answer of a label, as [labels, answers].
        weights: how often each label occurs.
    """

    def __init__(self, widths: list[list[float]], weights: list[float]) -> None:
        self.widths = torch.tensor(widths, dtype=F64)
        self.weights = torch.tensor(weights, dtype=F64)
        k, answers = self.widths.shape
        # One vector for each answer: its label leads, the others tell which answer it is.
        vectors = torch.full((k, answers, k), 0.1 / (k - 1), dtype=F64)
        vectors[torch.arange(k), :, torch.arange(k)] = 0.9
        vectors[..., -1] += torch.arange(answers) * 1e-3
        self.vectors = vectors / vectors.sum(-1, keepdim=True)

    @property
    def mse(self) -> float:
        """E[Var(X | Y)], by entry: that of a uniform number is its width squared by 12."""
        by_label = self.widths.square().mean(1) / 12
        return float((by_label * self.weights).sum() / self.weights.sum())

    def draw(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        label = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        answer = torch.randint(self.widths.shape[1], (n,), generator=generator)
        width = self.widths[label, answer].unsqueeze(1)
        place = (answer / self.widths.shape[1]).unsqueeze(1) * (1 - width)
        return self.vectors[label, answer], place + width * uniform(n, 2, generator=generator)


WORLDS = {
    "one answer a label": World([[1.0], [0.5], [0.2]], [1.0, 1.0, 1.0]),
    "four answers a label": World([[0.5, 0.4, 0.3, 0.2]] * 3, [1.0, 2.0, 3.0]),
    "answers of one input": World([[0.0, 1.0], [0.0, 0.2]], [1.0, 1.0]),
    "a label that never comes": World([[0.7, 0.3], [0.5, 0.5], [1.0, 1.0]], [1.0, 1.0, 0.0]),
    "a label that hardly comes": World([[0.2] * 8, [1.0] * 8], [50.0, 1.0]),
}


@pytest.mark.parametrize("n", [60, *later(10, 400)])
@pytest.mark.parametrize("name", unless(("four answers a label",), WORLDS))
def test_the_certificate_misses_no_more_often_than_it_says(name: str, n: int) -> None:
    world, generator = WORLDS[name], torch.Generator().manual_seed(100)
    missed = 0
    for repetition in range(REPETITIONS):
        p, x = world.draw(n, generator)
        missed += mp.certify(p, p, x, confidence=1 - LEVEL, seed=repetition).mse > world.mse
    assert missed <= LEVEL * REPETITIONS


def test_copies_of_an_input_count_once() -> None:
    """Three copies of each: pairs of copies would count as inputs that share an answer and hide nothing."""
    world, generator = WORLDS["four answers a label"], torch.Generator().manual_seed(100)
    missed = 0
    for repetition in range(REPETITIONS // 4):
        p, x = (part.repeat(3, 1) for part in world.draw(60, generator))
        x = (x + 1e-3 * torch.randn(x.shape, generator=generator)).clamp(0, 1)
        made = mp.certify(p, p, x, groups=torch.arange(60).repeat(3), seed=repetition)
        assert made.rows == 60
        missed += made.mse > world.mse * 1.001
    assert missed <= LEVEL * REPETITIONS / 4
    assert mp.certify(p, p, x).rows == 180


def test_the_estimate_is_the_unbiased_variance_within_each_answer() -> None:
    world = WORLDS["four answers a label"]
    p, x = world.draw(300, torch.Generator().manual_seed(1))
    made = mp.certify(p, p, x)
    rows = [x[(p == vector).all(1)] for vector in p.unique(dim=0)]
    expected = sum(float(some.var(0).mean()) * len(some) for some in rows if len(some) > 1) / 300
    assert math.isclose(made.mse_seen, expected, rel_tol=1e-5)
    assert made.answers == len(rows) == 12 and made.bits == 2 and made.alone == 0
    assert made.mse < made.mse_seen < made.label_mse_seen and made.label_mse < made.label_mse_seen
    assert made.gain(made.mse) == 0 and made.gain(0.0) == made.mse / made.label_mse_seen
    assert math.isnan(made.gain(1.0))


def test_no_table_of_means_beats_the_bound() -> None:
    """The best adversary for squared error: the mean input behind each answer, from many more rows."""
    world, generator = WORLDS["four answers a label"], torch.Generator().manual_seed(2)
    p, x = world.draw(500, generator)
    bound = mp.certify(p, p, x).mse
    (known, seen), (asked, hidden) = world.draw(20_000, generator), world.draw(2000, generator)
    _, place = torch.cat((known, asked)).unique(dim=0, return_inverse=True)
    means = torch.zeros(int(place.max()) + 1, 2, dtype=F64).index_add_(0, place[:20_000], seen)
    means /= torch.bincount(place[:20_000]).unsqueeze(1)
    errors = (means[place[20_000:]] - hidden).square().mean(1)
    assert float(errors.mean()) > bound - float(errors.std()) / math.sqrt(len(errors))


# Answers that tell more than they seem to.


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_what_hides_in_the_last_digit_is_told(dtype: torch.dtype) -> None:
    """One vector a label, whose last three bits tell in which eighth of its range the input lies."""
    x = torch.rand(1000, 1, generator=torch.Generator().manual_seed(3))
    p = torch.tensor([0.6, 0.2, 0.1, 0.1]).repeat(1000, 1)
    p[::2] = p[::2].flip(1)
    honest, hidden = p.to(dtype), p.to(dtype).clone()
    words = {2: torch.int16, 4: torch.int32, 8: torch.int64}[dtype.itemsize]
    hidden.view(words)[:, 1] += (8 * x[:, 0]).to(words)
    assert float((hidden.double() - honest.double()).abs().max()) < 0.01
    open_, closed = (mp.certify(answers, p, x) for answers in (hidden, honest))
    assert (open_.answers, closed.answers) == (16, 2) and open_.bits == 3
    assert closed.mse > 0.07 and open_.mse_seen < 0.002
    assert open_.mse < 0.002 < 0.07 < open_.label_mse


@pytest.mark.parametrize(
    "answers", [lambda p: p, LaplaceNoise(scale=0.05, key=1), mp.LFP(rate=0.1, key=1)]
)
def test_a_continuous_defense_gets_no_certificate(answers: Any) -> None:
    p, x = draw("plain", 300, 5).float(), torch.rand(300, 4)
    made = mp.certify(answers, p, x)
    assert made.mse == 0 and made.alone == 1
    assert "No certificate: 100% of the rows have an answer of their own" in str(made)
    assert "Only a defense with few answers" in str(made)


def test_digits_that_float32_lacks_are_no_variance() -> None:
    """Numbers near 2^24 that differ by less than two, and a range that is far wider than they are."""
    p, x = draw("plain", 1000, 3).float(), torch.rand(1000, 1, dtype=F64)
    for inputs, low, high, variance in (
        (2.0**24 + 0.9 + 0.2 * x, 0.0, 2.0**25, 0.2**2 / 12),
        (2**24 + 1 + 2 * (x < 0.5).long(), 0.0, 2.0**25, 1.0),
        (x.float(), -1e7, 1e7, 1 / 12),
    ):
        made = mp.certify(LabelOnly(), p, inputs, low=low, high=high)
        assert 0.7 * variance < made.mse < made.mse_seen < 1.1 * variance


def test_it_says_why_there_is_no_certificate() -> None:
    p, x = draw("plain", 300, 3).float(), torch.rand(300, 2)
    assert "inputs with the same answer do not differ" in str(mp.certify(LabelOnly(), p, 0 * x))
    assert "100% of the rows have an answer" in str(mp.certify(p, p, x))
    assert "99.9% confidence" in str(mp.certify(LabelOnly(), p, x, confidence=0.999))


def test_signs_of_zero_are_other_answers() -> None:
    """They are other bits, which a client can read."""
    p = torch.tensor([[1.0, 0.0]] * 8)
    q = p.clone()
    q[::2, 1] = -0.0
    made = mp.certify(q, p, torch.rand(8, 2))
    assert made.answers == 2 and made.bits == 1


# Secrets.


def test_the_bound_of_a_secret_misses_no_more_often_than_it_says() -> None:
    generator = torch.Generator().manual_seed(100)
    p = WORLDS["one answer a label"].vectors[:, 0]
    missed = 0
    for _ in range(REPETITIONS // 4):
        label = torch.randint(3, (200,), generator=generator)
        # The secret is the label in half of all rows, else one of three: the best guess is right for two thirds.
        chosen = torch.rand(200, generator=generator) < 0.5
        secret = torch.where(chosen, label, torch.randint(3, (200,), generator=generator))
        made = mp.certify(p[label], p[label], torch.zeros(200, 1), secrets={"which": secret})
        missed += made.secrets["which"].accuracy < 2 / 3
    assert missed <= LEVEL * REPETITIONS / 4


def test_a_secret_is_compared_with_what_the_label_tells() -> None:
    p, x = draw("plain", 300, 5).float(), torch.rand(300, 4)
    names = np.array(["ann", "bob"])[np.arange(300) % 2]
    for values in (names, names.tolist(), torch.arange(300) % 2):
        secret = mp.certify(LabelOnly(), p, x, secrets={"who": values}).secrets["who"]
        assert secret.constant_accuracy == 0.5 <= secret.label_accuracy == secret.seen < 0.7
        assert secret.accuracy == secret.seen + math.sqrt(math.log(20) / 600)


# Kinds, units and errors.


def test_units_are_those_of_the_inputs() -> None:
    p, x = draw("plain", 300, 5).float(), torch.rand(300, 4)
    one = mp.certify(LabelOnly(), p, x)
    bytes_ = mp.certify(LabelOnly(), p, 255 * x, high=255.0)
    moved = mp.certify(LabelOnly(), p, 2 * x - 1, low=-1.0)
    for name in ("mse", "mse_seen", "label_mse", "label_mse_seen"):
        expected = getattr(one, name)
        assert math.isclose(getattr(bytes_, name), 255**2 * expected, rel_tol=1e-4)
        assert math.isclose(getattr(moved, name), 4 * expected, rel_tol=1e-4)


def test_answers_are_taken_as_a_defense_or_as_rows_of_any_kind() -> None:
    p, x = draw("plain", 300, 5).float(), torch.rand(300, 4)
    expected = mp.certify(Rounding(1), p, x)
    q = Rounding(1)(p)
    for answers in (q, q.numpy(), q.double(), q.tolist(), lambda rows: Rounding(1)(rows).numpy()):
        assert mp.certify(answers, p, x) == expected
    assert mp.certify(q, p.numpy(), x.numpy()) == expected
    assert mp.certify(q, p, x, seed=1) != expected


def test_it_says_what_it_holds_for() -> None:
    p, x = draw("plain", 300, 5).float(), torch.rand(300, 4)
    made = mp.certify(LabelOnly(), p, x, secrets={"who": torch.arange(300) % 2})
    said = str(made)
    for words in (
        "300 held-out inputs, 5 different answers, at most 0.0 bits beyond the label",
        "95% confidence",
        "whatever it computes and knows, the key included",
        "who: guessed for at most",
        "drawn like the held-out ones",
        "Several different inputs of one person tell more",
    ):
        assert words in said
    read = json.loads(made.to_json())
    assert read["mse"] == made.mse and read["secrets"]["who"]["seen"] == made.secrets["who"].seen
    with pytest.raises(AttributeError):
        made.mse = 1.0  # type: ignore[misc]


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        ({"answers": torch.rand(3, 5)}, ValueError, "as many answers as outputs, got 3 and 40"),
        ({"answers": torch.full((40, 5), math.nan)}, ValueError, "expected finite answers"),
        ({"outputs": torch.rand(40, 5)}, ValueError, "expected outputs to be probability vectors"),
        (
            {"inputs": torch.full((40, 2), 1.5)},
            ValueError,
            r"inputs in \[0, 1\], .* low= and high=",
        ),
        ({"inputs": torch.rand(39, 2)}, ValueError, "as many inputs as outputs"),
        ({"confidence": 1.0}, ValueError, "expected confidence < 1"),
        ({"confidence": 0.4}, ValueError, r"confidence in \[0\.5, 1\]"),
        ({"low": 1.0}, ValueError, "expected low < high"),
        ({"high": math.inf}, ValueError, "both finite"),
        ({"groups": torch.zeros(40, dtype=torch.int64)}, ValueError, "at least 4 different inputs"),
        ({"groups": torch.rand(40)}, TypeError, "groups to hold integers"),
        ({"secrets": {"who": [1, 2]}}, ValueError, r"secrets\['who'\] of shape"),
        ({"secrets": ["who"]}, TypeError, r"secrets to be a mapping from names .* got list"),
        *(
            ({"secrets": {"who": values}}, TypeError, r"secrets\['who'\] to be integers or texts")
            for values in (
                np.linspace(0, 1, 300),
                [None] * 300,
                ["a", None] * 150,
                np.ma.masked_equal(np.arange(300) % 3, 1),
                np.ma.masked_equal(np.array(["a", "b"] * 150), "b"),
            )
        ),
        ({"seed": 0.5}, ValueError, "seed"),
    ],
)
def test_wrong_arguments_are_refused(
    change: dict[str, Any], error: type[Exception], said: str
) -> None:
    p, x = draw("plain", 40, 5).float(), torch.rand(40, 2)
    given = {"answers": LabelOnly(), "outputs": p, "inputs": x} | change
    with pytest.raises(error, match=said):
        mp.certify(**given)


def test_an_answer_that_labels_share_counts_for_each() -> None:
    p = torch.tensor([[0.7, 0.3]] * 200 + [[0.3, 0.7]] * 200 + [[0.1, 0.9]] * 200)
    # One answer to the first label, and that one and another to the second.
    answers = torch.tensor([[0.7, 0.3]] * 400 + [[0.1, 0.9]] * 200)
    for seed in range(4):
        assert mp.certify(answers, p, torch.rand(600, 3), seed=seed).bits == 1.0
