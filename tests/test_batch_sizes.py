"""Guarantee: one input has one answer in batches of every size, though a classifier's last bits differ in them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from distributions import draw
from fitted import key_of
from later import later
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import GaussianNoise, LaplaceNoise, OneParameter, Purifier, Swap
from mipoison.defenses.lpa.defense import OBJECTIVES
from mipoison.eval.data.loading import split
from mipoison.eval.targets.training import train_target
from mipoison.reference import label_of

SIZES = (1, 2, 7, 32, 547)
QUERIES = 547
# A row is answered otherwise if it moves by more than this share of the longest move, where there is one, or of 0.2.
OTHERWISE = 0.05
# Of rows that are asked again in another batch, the share that may be answered otherwise.
SHARE = 1e-4
KEYED: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "laplace": lambda p, x: LaplaceNoise(key=1),
    "gaussian": lambda p, x: GaussianNoise(key=1),
    "one-parameter": lambda p, x: OneParameter(key=1),
    "purifier": lambda p, x: Purifier.fit(p, epochs=5, key=1),
    "swap": lambda p, x: Swap.fit(p, key=1),
    "swap of cells of its own": lambda p, x: Swap.fit(p, grid=0.0, key=1),
    "random flips": lambda p, x: mp.LFP.fit(p, x, rate=0.05, rows="random", key=1),
    "flips of low margin": lambda p, x: mp.LFP.fit(p, x, rate=0.05, key=1),
    "flips of leaking rows": lambda p, x: mp.LFP.fit(p, x, rate=0.05, rows="leak", key=1),
    "projected flips": lambda p, x: mp.LFP(rate=0.05, style="project", key=1),
} | {
    objective: lambda p, x, objective=objective: mp.LPA.fit(
        p, x, objective=objective, epsilon=0.2, **key_of(objective)
    )
    for objective in OBJECTIVES
}

# The objectives that follow gradients.
STEPPED = ("decoy", "ascent", "alignment", "alignment-full")


@pytest.fixture(scope="module")
def answered() -> Callable[[float], dict[int, Tensor]]:
    """What a classifier of digits answers at a temperature to the same inputs in batches of each size."""
    parts = split("digits", seed=100)
    model = train_target(parts.private, classes=parts.classes, seed=100)
    inputs = torch.cat((parts.auxiliary.inputs, parts.defender.inputs))[:QUERIES]

    @torch.no_grad()
    def at(temperature: float) -> dict[int, Tensor]:
        return {
            size: torch.cat([torch.softmax(model(x) / temperature, 1) for x in inputs.split(size)])
            for size in SIZES
        }

    return at


def test_float64_rows_are_answered_alike_to_the_last_bit(
    fitted: dict[str, Callable[[Tensor], Tensor]],
) -> None:
    # (Torch sums a row that comes alone in another order.)
    p = draw("plain", 28, 10, seed=7)
    for name, defense in fitted.items():
        together = defense(p)
        for size in (3, 7):
            apart = torch.cat([defense(rows) for rows in p.split(size) if len(rows) > 1])
            assert torch.equal(apart, together[: len(apart)]), (name, size)


@pytest.mark.parametrize("temperature", [1.0, 3.0, *later(8.0)])
def test_keyed_words_do_not_depend_on_the_batch(
    answered: Callable[[float], dict[int, Tensor]], temperature: float
) -> None:
    rows = answered(temperature)
    # The batch does change the rows, or this would test nothing.
    assert all((rows[1] != rows[size]).any(1).double().mean() > 0.9 for size in SIZES[1:])
    changed, asked = 0, 0
    for key in range(60):
        words = {size: mp.row_bits(p, key=key) for size, p in rows.items()}
        for size in SIZES[1:]:
            changed += int((words[size] != words[1]).any(1).sum())
            asked += QUERIES
    assert changed < SHARE * asked


@pytest.mark.parametrize("temperature", [1.0, 3.0, 8.0])
def test_rows_of_different_inputs_get_different_words(
    answered: Callable[[float], dict[int, Tensor]], temperature: float
) -> None:
    rows = answered(temperature)[1]
    # At T = 1 most rows of a label agree to three decimals.
    for key in range(5):
        words = mp.row_bits(rows, key=key)
        assert len(words.unique(dim=0)) >= 0.99 * len(rows.unique(dim=0))


def answered_otherwise(
    rows: dict[int, Tensor], inputs: Tensor, names: Iterable[str] = KEYED
) -> tuple[dict[Any, int], int]:
    """How many rows each defense, fitted on the first ones, answers otherwise in a batch of another size.

    Returns:
        those numbers, where they are not zero, and the number of all rows that were asked again.
    """
    first, *others = rows
    n = len(rows[first])
    ids = [f"account {i}" for i in range(n)]
    otherwise, asked = {}, 0
    for name in names:
        defense = KEYED[name](rows[first][: len(inputs)], inputs)
        for options in ({}, {"ids": ids}) if name not in ("codebook", "cutoff") else ({},):
            expected = defense(rows[first], **options)
            for size in others:
                again = defense(rows[size], **options)
                far = (again - expected).abs().sum(1) > OTHERWISE * 0.2
                far = far | (label_of(again) != label_of(expected))
                asked += n
                if bool(far.any()):
                    otherwise[name, size, bool(options)] = int(far.sum())
    return otherwise, asked


# (The sizes that the test of words takes, too, are left to --full: the answers follow the words.)
@pytest.mark.parametrize(
    ("temperature", "sizes"), [*later((1.0, SIZES), (3.0, SIZES)), (3.0, (1, 7, QUERIES))]
)
def test_answers_do_not_depend_on_the_batch(
    answered: Callable[[float], dict[int, Tensor]], temperature: float, sizes: tuple[int, ...]
) -> None:
    made = answered(temperature)
    rows = {size: made[size] for size in sizes}
    otherwise, asked = answered_otherwise(rows, rows[1][:300].log())
    assert sum(otherwise.values()) < SHARE * asked, otherwise


@pytest.mark.full
@pytest.mark.parametrize("confidence", [8.0, 25.0])
@pytest.mark.parametrize("which", ["stepped", "keyed"])
def test_answers_of_a_classifier_that_learnt_nothing_do_not_depend_on_the_batch(
    confidence: float, which: str
) -> None:
    """Its surrogate learns noise, and has steep and vanishing gradients."""
    with torch.random.fork_rng():
        torch.manual_seed(100)
        model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10))
        inputs = torch.rand(2000, 64)
    with torch.no_grad():
        rows = {
            size: torch.cat([torch.softmax(confidence * model(x), 1) for x in inputs.split(size)])
            for size in (1, 2000)
        }
    assert (rows[1] != rows[2000]).any(1).double().mean() > 0.9
    otherwise, asked = answered_otherwise(
        rows, inputs[:500], STEPPED if which == "stepped" else KEYED
    )
    assert sum(otherwise.values()) < SHARE * asked, otherwise


@pytest.mark.parametrize("classes", [2, *later(3, 6)])
def test_answers_with_few_classes_do_not_depend_on_the_batch(classes: int) -> None:
    """Many keyed directions point along the ones there, so that a step and its opposite are equally short."""
    with torch.random.fork_rng():
        torch.manual_seed(100 + classes)
        model = nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, classes))
        inputs = torch.randn(1094, 16)
    with torch.no_grad():
        rows = {
            size: torch.cat([torch.softmax(20 * model(x), 1) for x in inputs.split(size)])
            for size in (1, 547)
        }
    # (The moves of these objectives do not reach their budget with two classes.)
    names = [name for name in KEYED if name not in ("equilibrium", "generator")]
    otherwise, asked = answered_otherwise(rows, inputs[:200], names)
    assert sum(otherwise.values()) < SHARE * asked, otherwise
