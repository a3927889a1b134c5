"""Guarantee: a compiled program answers with the same bits as an eager one, whatever the compiler."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from distributions import draw
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import LaplaceNoise
from mipoison.defenses.clean import softmax_of

K, ROWS = 10, 200


class Classifier(nn.Module):
    """Logits that no compiler rounds otherwise: one matrix product."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(8, K, generator=torch.Generator().manual_seed(0)))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight


@pytest.fixture
def x() -> Tensor:
    return torch.randn(ROWS, 8, generator=torch.Generator().manual_seed(1))


def compiled(function: Callable[..., Any], **options: Any) -> Callable[..., Any]:
    torch._dynamo.reset()
    return torch.compile(function, **options)


def test_defended_logits(fitted: dict[str, Any], x: Tensor) -> None:
    """Every defense, keyed or not, behind a classifier that is compiled with it, in one graph."""
    classifier = Classifier()
    served = {
        name: mp.Defended(classifier, defense, gives="logits", temperature=0.7, validate=False)
        for name, defense in fitted.items()
    }

    def ask(x: Tensor) -> dict[str, Tensor]:
        return {name: each(x) for name, each in served.items()}

    answers, expected = compiled(ask, fullgraph=True)(x), ask(x)
    changed = {name: rows_that_differ(answers[name], q) for name, q in expected.items()}
    assert changed == dict.fromkeys(served, 0)


def test_defenses(fitted: dict[str, Any]) -> None:
    """As a step of somebody's own compiled function."""

    def ask(p: Tensor) -> dict[str, Tensor]:
        return {name: defense(p, validate=False) for name, defense in fitted.items()}

    p = draw("plain", ROWS, K).float()
    answers, expected = compiled(ask, fullgraph=True)(p), ask(p)
    changed = {name: rows_that_differ(answers[name], q) for name, q in expected.items()}
    assert changed == dict.fromkeys(fitted, 0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_validated_rows(dtype: torch.dtype, x: Tensor) -> None:
    """The graph breaks before the defense, and has the softmax in it."""
    served = mp.Defended(Classifier().to(dtype), LaplaceNoise(key=1), gives="logits")
    assert torch.equal(compiled(served)(x.to(dtype)), served(x.to(dtype)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_softmax_operator(dtype: torch.dtype, x: Tensor) -> None:
    logits = Classifier()(x).detach().to(dtype)
    torch.library.opcheck(torch.ops.mipoison.softmax_of.default, (logits, 0.7))
    torch.library.opcheck(torch.ops.mipoison.softmax_of.default, (logits.t().contiguous().t(), 1.0))
    assert torch.equal(torch.ops.mipoison.softmax_of(logits, 0.7), softmax_of(logits, 0.7))


def rows_that_differ(a: Tensor, b: Tensor) -> int:
    return int((a != b).any(1).sum())
