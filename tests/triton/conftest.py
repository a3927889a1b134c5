"""Runs the Triton kernels under Triton's interpreter: `TRITON_INTERPRET=1 pytest tests/triton [--full]`.

Triton chooses the interpreter once, when it is first imported, and PyTorch may import it early: the variable has to
be set before the process starts. Without it nothing here is collected.
"""

from __future__ import annotations

import os

import pytest
import torch

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--full", action="store_true", help="the whole table, which takes long")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "full: left out unless --full is given")
    torch.utils.deterministic.fill_uninitialized_memory = True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--full", default=False):
        return
    for item in items:
        if item.get_closest_marker("full"):
            item.add_marker(pytest.mark.skip(reason="part of the whole table: pass --full"))
