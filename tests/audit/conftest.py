"""Tiny evidence: 320 rows of 4 classes whose vectors depend on their inputs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

ROWS, CLASSES, SIDE = 320, 4, 6
Array = npt.NDArray[Any]
Save = Callable[..., Path]


def softmax(z: Array) -> Array:
    e = np.exp(z - z.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@pytest.fixture(scope="session")
def x() -> Array:
    return np.random.default_rng(100).random((ROWS, SIDE, SIDE), dtype=np.float32)


@pytest.fixture(scope="session")
def logits(x: Array) -> Array:
    weights = np.random.default_rng(101).standard_normal((SIDE * SIDE, CLASSES))
    return (x.reshape(ROWS, -1) - 0.5) @ weights


@pytest.fixture(scope="session")
def p(logits: Array) -> Array:
    return softmax(logits).astype(np.float32)


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Writes an npz."""

    def write(**arrays: Any) -> Path:
        np.savez(tmp_path / "mine.npz", **arrays)
        return tmp_path / "mine.npz"

    return write
