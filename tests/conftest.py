"""Shared by all tests: one thread unless a test asks for more, and one set of fitted defenses."""

from __future__ import annotations

import gc
import os

# The Triton kernels are tested under the interpreter of Triton, which chooses it when it is first imported. PyTorch may
# import Triton early.
os.environ["TRITON_INTERPRET"] = "1"

from collections.abc import Callable, Iterator

import later
import pytest
import short_fits
import torch
from fitted import fit_all
from torch import Tensor

from mipoison import nn
from mipoison.defenses.lpa import critics, game

# Thousands of tests stay in memory to the end. Looking through them for garbage takes a fourth of their collection.
gc.disable()

torch.set_num_threads(1)
short_fits.install("train", nn, game, critics)
short_fits.install_narrow(nn, game, critics)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="whole tables, which take long")


def pytest_configure(config: pytest.Config) -> None:
    later.full = config.getoption("--full")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full"):
        return
    left = [item for item in items if item.get_closest_marker("full")]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if not item.get_closest_marker("full")]


def pytest_collection_finish() -> None:
    """Collects garbage from here on, and never looks at the tests."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the first fixture of a module, which may fit a defense."""
    whole = item.config.getoption("--full") or item.get_closest_marker("whole_fits")
    short_fits.active = not whole


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def fitted(pytestconfig: pytest.Config) -> dict[str, Callable[[Tensor], Tensor]]:
    """Every defense of the package, fitted on the same small data."""
    with short_fits.chosen(not pytestconfig.getoption("--full")):
        return fit_all()
