"""Runs the Triton kernels under Triton's interpreter: `TRITON_INTERPRET=1 pytest tests/triton [--full]`.

Triton chooses the interpreter once, when it is first imported, and PyTorch may import it early: the variable has to
be set before the process starts. Without it nothing here is collected.
"""

from __future__ import annotations

import os

import pytest
import torch

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    torch.utils.deterministic.fill_uninitialized_memory = True
