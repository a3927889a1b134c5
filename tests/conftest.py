"""Shared by all tests: one thread unless a test asks for more, and one set of fitted defenses."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from distributions import draw
from torch import Tensor

import mipoison as mp
from mipoison.defenses import (
    Contract,
    GaussianNoise,
    HighConfidence,
    LabelOnly,
    LaplaceNoise,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Rounding,
    Swap,
    Temperature,
    TopK,
)

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="whole tables, which take long")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="part of a whole table: pass --full"))


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fitted() -> dict[str, Callable[[Tensor], Tensor]]:
    """Every defense of the package, fitted on the same small data."""
    outputs, inputs = draw("plain", 200, 10).float(), torch.rand(200, 6, 6)
    return {
        "decoy": mp.LPA.fit(outputs, inputs, objective="decoy", epsilon=0.2, key=1),
        "ascent": mp.LPA.fit(outputs, inputs, objective="ascent", epsilon=0.2, key=1),
        "direction": mp.LPA.fit(outputs, inputs, objective="direction", epsilon=0.2, key=1),
        "equilibrium": mp.LPA.fit(
            outputs, inputs, objective="equilibrium", budget=0.05, epsilon=0.2, key=1
        ),
        "generator": mp.LPA.fit(
            outputs, inputs, objective="generator", budget=0.05, epsilon=0.2, key=1
        ),
        "alignment": mp.LPA.fit(outputs, inputs, objective="alignment", epsilon=0.2, key=1),
        "alignment-full": mp.LPA.fit(outputs, inputs, objective="alignment-full", key=1),
        "lfp": mp.LFP.fit(outputs, inputs, rate=0.3, rows="random", key=1),
        "lfp-margin": mp.LFP.fit(outputs, inputs, rate=0.3, targets="runner_up", key=1),
        "label-only": LabelOnly(),
        "rounding": Rounding(1),
        "laplace": LaplaceNoise(scale=0.05, key=1),
        "gaussian": GaussianNoise(scale=0.05, key=1),
        "top-k": TopK(3),
        "flatter": Temperature(temperature=3.0),
        "sharper": Temperature(temperature=0.3),
        "reverse-sigmoid": ReverseSigmoid(),
        "high-confidence": HighConfidence(cutoff=0.1),
        "one-parameter": OneParameter(privacy_budget=50.0, key=1),
        "purifier": Purifier.fit(outputs, epochs=5, key=1),
        "swap": Swap.fit(outputs, epsilon=0.2, key=1),
        "contract": Contract.fit(outputs, epsilon=0.2),
    }
