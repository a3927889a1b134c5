"""Training steps against torch's own optimizer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from mipoison.adamw import AdamW


def start() -> list[Tensor]:
    generator = torch.Generator().manual_seed(100)
    return [
        torch.randn(shape, generator=generator).requires_grad_() for shape in ((2, 5, 7), (2, 1, 7))
    ]


def losses(state: list[Tensor], steps: int) -> Iterator[Tensor]:
    """A loss for each step, of the state as it is then."""
    generator = torch.Generator().manual_seed(101)
    for _ in range(steps):
        x = torch.randn((2, 3, 5), generator=generator)
        yield (torch.baddbmm(state[1], x, state[0]).relu() - 1).square().sum()


@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("steps", [1, 2, 3, 10, 57])
def test_a_one_cycle_is_that_of_torch(steps: int, fused: bool) -> None:
    ours, theirs = start(), start()
    optimizer = AdamW(ours, rate=3e-2, steps=steps, fused=fused)
    reference = torch.optim.AdamW(theirs, lr=3e-2, fused=fused)
    schedule = torch.optim.lr_scheduler.OneCycleLR(reference, 3e-2, total_steps=steps)
    for loss, expected in zip(losses(ours, steps), losses(theirs, steps), strict=True):
        optimizer.step(loss)
        reference.zero_grad()
        expected.backward()
        reference.step()
        schedule.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("fused", [True, False])
def test_a_constant_rate_is_that_of_torch(fused: bool) -> None:
    ours, theirs = start(), start()
    optimizer = AdamW(ours, rate=3e-2, fused=fused)
    reference = torch.optim.AdamW(theirs, lr=3e-2, fused=fused)
    for loss, expected in zip(losses(ours, 20), losses(theirs, 20), strict=True):
        optimizer.step(loss)
        reference.zero_grad()
        expected.backward()
        reference.step()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a, b)
