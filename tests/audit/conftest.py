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


@pytest.fixture(scope="session")
def people(p: Array) -> dict[str, Any]:
    """Columns of people, and their vectors."""
    rng = np.random.default_rng(103)
    return {
        "person": np.arange(len(p)) + 1000,
        "age": rng.integers(17, 90, len(p)),
        "job": rng.choice(["baker", "smith", "teacher"], len(p)),
        "height": rng.normal(1.7, 0.1, len(p)),
        "region": rng.integers(1, 5, len(p)) * 10,
        "married": rng.random(len(p)) < 0.5,
        **{f"p_{name}": p[:, k].astype(np.float64) for k, name in enumerate("wxyz")},
    }


@pytest.fixture
def write(tmp_path: Path) -> Save:
    """Writes a CSV or Parquet."""
    pa = pytest.importorskip("pyarrow")
    csv = pytest.importorskip("pyarrow.csv")
    parquet = pytest.importorskip("pyarrow.parquet")

    def save(columns: dict[str, Any], name: str = "people.csv") -> Path:
        table = pa.table(columns)
        if name.endswith(".parquet"):
            parquet.write_table(table, tmp_path / name, row_group_size=100)
        else:
            csv.write_csv(table, tmp_path / name)
        return tmp_path / name

    return save
