"""Guarantee: whatever a client rounds or casts an answer to keeps the label, where the undefended row would have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from distributions import DISTRIBUTIONS, draw
from later import fewer, later, unless
from torch import Tensor

from mipoison.defenses import Rounding
from mipoison.defenses.base import Defense
from mipoison.reference import label_of

K = 10
ROWS = fewer(300, 600)
HALVES = (torch.float16, torch.bfloat16)
# (At so many decimals, numpy.float32 at three in that dtype.)
FORMS: tuple[Any, ...] = (*HALVES, 3, 4, 5, 6, np.float32)


def leads(n: int) -> Tensor:
    """Rows whose label leads by 10⁻⁷ to 0.1, evenly on a logarithmic scale, over some rivals; float64 [n, K]."""
    generator = torch.Generator().manual_seed(4)
    p = draw("plain", n, K, seed=4)
    label = torch.randint(0, K, (n, 1), generator=generator)
    rivals = torch.rand(n, K, generator=generator) < 0.3
    lead = 10 ** (-7 + 6 * torch.rand(n, 1, generator=generator, dtype=torch.float64))
    top = 0.1 + 0.4 * torch.rand(n, 1, generator=generator, dtype=torch.float64)
    p = torch.where(rivals, top - lead, torch.minimum(p, top - lead))
    p.scatter_(1, label, top)
    return p / p.sum(1, keepdim=True)


def kinds() -> Iterator[tuple[str, Tensor]]:
    yield "leads", leads(ROWS)
    for distribution in DISTRIBUTIONS:
        yield distribution, draw(distribution, ROWS, K, seed=5)


DATA = dict(kinds())


def served(x: Tensor, form: Any) -> Tensor:
    """What a client reads: cast to a dtype, or at so many decimals as `numpy.round` and JSON writers have them."""
    if isinstance(form, int):
        return torch.from_numpy(np.round(x.double().numpy(), form))
    if form is np.float32:
        return torch.from_numpy(np.round(x.float().numpy(), 3))
    return x.to(form)


def lost(p: Tensor, q: Tensor, form: Any) -> int:
    """Labels that the undefended row keeps in this form, and the answer does not."""
    label = label_of(p)
    kept, still = (label_of(served(x, form)) == label for x in (p, q))
    return int((kept & ~still).sum())


def lead(x: Tensor, label: Tensor) -> Tensor:
    x = x.double()
    own = x.gather(1, label.unsqueeze(1)).squeeze(1)
    return own - x.scatter(1, label.unsqueeze(1), -1.0).amax(1)


def keeping(fitted: dict[str, Any]) -> dict[str, Any]:
    return {name: defense for name, defense in fitted.items() if defense.keeps_labels}


@pytest.mark.parametrize(
    ("data", "dtype", "options"),
    [
        *((data, torch.float32, {}) for data in DATA),
        ("leads", torch.float32, {"validate": False}),
        ("leads", torch.float64, {}),
    ],
)
def test_labels_survive_client_rounding(
    fitted: dict[str, Any], data: str, dtype: torch.dtype, options: dict[str, bool]
) -> None:
    p = DATA[data].to(dtype)
    label = label_of(p)
    # The margin, or what the row had, to the rounding of float32.
    least = lead(p, label).clamp_max(1e-3) - 1e-7
    failures = {}
    for name, defense in keeping(fitted).items():
        q = defense(p, **options)
        found = {form: lost(p, q, form) for form in FORMS}
        if any(found.values()) or bool((lead(q, label) < least).any()):
            failures[name] = found
        radius, norm = defense.ball
        order = {"l1": 1, "l2": 2, "linf": np.inf}[norm]
        moved = torch.linalg.vector_norm(q.double() - p.double(), order, dim=1)
        # (A row's sum may be off by some 1e-7, from where the move is measured.)
        assert float(moved.max()) <= radius + 3e-7
        assert float((q.double().sum(1) - 1).abs().max()) < 1e-6 and float(q.min()) >= 0
    assert failures == {}


@pytest.mark.parametrize("data", ["leads", *later("plain", "near-ties")])
def test_a_larger_margin_keeps_labels_at_fewer_decimals(
    fitted: dict[str, Any], data: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    p = DATA[data].float()
    for name, defense in keeping(fitted).items():
        for margin, decimals in ((0.01, 2), (0.1, 1)):
            monkeypatch.setattr(defense, "margin", margin)
            assert lost(p, defense(p), decimals) == 0, name


@pytest.mark.parametrize("dtype", unless((torch.float16,), HALVES))
def test_labels_of_16_bit_rows_survive_client_rounding(
    fitted: dict[str, Any], dtype: torch.dtype
) -> None:
    p = torch.cat([DATA[data] for data in ("leads", "plain", "flat")]).to(dtype)
    failures = {}
    for name, defense in keeping(fitted).items():
        q = defense(p)
        assert torch.equal(label_of(q), label_of(p)), name
        found = {form: lost(p, q, form) for form in FORMS}
        if any(found.values()):
            failures[name] = found
    assert failures == {}


def test_without_a_margin_labels_are_lost() -> None:
    p = DATA["leads"].float()
    bare = Rounding(1, margin=0.0)(p)
    assert torch.equal(label_of(bare), label_of(p))
    assert lost(p, bare, 3) > 20 < lost(p, bare, torch.bfloat16)


def test_rows_of_two_classes_that_hardly_lead_still_move() -> None:
    p = torch.tensor([[0.5001, 0.4999], [0.4999, 0.5001], [0.500001, 0.499999]])

    class Toward(Defense):
        name = "toward the middle"

        def answer(self, p: Tensor) -> Tensor:
            return 0.5 + 0.5 * (p - 0.5)

    q = Toward()(p)
    assert torch.equal(label_of(q), label_of(p))
    assert bool(((q - p).abs().sum(1) > 0).all())


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
def test_a_label_can_lead_by_all_there_is(dtype: torch.dtype, validate: bool) -> None:
    """With margin 1 a one-hot row stays one-hot, and no other loses any of its lead."""
    p = torch.cat([draw(distribution, 20, K, seed=5) for distribution in DISTRIBUTIONS]).to(dtype)
    label = label_of(p)
    q = Rounding(1, margin=1.0)(p, validate=validate)
    assert torch.equal(label_of(q), label)
    total = p.double().sum(1)
    slack = 2 * torch.finfo(dtype).eps
    assert bool((lead(q.double(), label) >= lead(p.double(), label) / total - slack).all())
