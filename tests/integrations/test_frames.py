"""Frames and series of pandas and polars: the same kind, index and other columns come out."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from integrations.tables import K, N, vectors
from torch import Tensor

from mipoison.defenses import LaplaceNoise
from mipoison.defenses.wire import on_the_wire
from mipoison.integrations.arrow import defend

NOISE = LaplaceNoise(scale=0.05, key=1)


@pytest.fixture
def p() -> Tensor:
    return vectors()


def frame(p: Tensor, **others: Any) -> pd.DataFrame:
    """Vectors as arrays, under an index that does not count."""
    columns = {"user": [f"user {i}" for i in range(N)], "p": list(p.numpy()), "at": range(N)}
    return pd.DataFrame(columns | others, index=range(100, 100 + N))


def test_a_pandas_frame(p: Tensor) -> None:
    given = frame(p)
    found = defend(given, NOISE)
    assert torch.equal(torch.from_numpy(np.stack(found["p"])), NOISE(p))
    assert found["p"].iloc[0].dtype == np.float32
    pd.testing.assert_frame_equal(found.drop(columns="p"), given.drop(columns="p"))
    assert list(found.columns) == list(given.columns)
    # What was given stays.
    assert (np.stack(given["p"]) == p.numpy()).all()
    ids = given["user"].tolist()
    found = defend(given, NOISE, ids="user", drop="at", decimals=3)
    expected: Any = on_the_wire(NOISE, p, decimals=3, ids=ids)
    assert list(found.columns) == ["user", "p"]
    assert (np.stack(found["p"]) == expected.numpy()).all()


def test_a_pandas_series(p: Tensor) -> None:
    given = frame(p)["p"]
    for series, kind in ((given, np.ndarray), (given.map(list), list)):
        found = defend(series, NOISE)
        assert isinstance(found.iloc[0], kind) and found.index.equals(given.index)
        rows = torch.tensor(np.stack(found)).float()
        assert torch.allclose(rows, NOISE(p.double() if kind is list else p).float())
        assert found.name == "p" and found.dtype == object
    ids = list(range(N))
    found = defend(given, NOISE, ids=ids)
    assert (np.stack(found) == NOISE(p, ids=ids).numpy()).all()


def test_pandas_columns_of_arrow(p: Tensor) -> None:
    kind = pd.ArrowDtype(pa.list_(pa.float32(), K))
    given = frame(p).astype({"p": kind})
    found = defend(given, NOISE)
    assert found["p"].dtype == kind and found.index.equals(given.index)
    assert (np.stack(found["p"].to_list()) == NOISE(p).numpy()).all()


def test_pandas_columns_of_the_classes(p: Tensor) -> None:
    names = list("abcde")
    given = pd.DataFrame(p.numpy(), columns=names).assign(user=range(N))
    found = defend(given, NOISE, column=names)
    assert (found[names].to_numpy() == NOISE(p).numpy()).all()
    assert (found.dtypes == given.dtypes).all() and list(found.columns) == list(given.columns)


def test_empty_pandas_frames(p: Tensor) -> None:
    given = frame(p).iloc[:0]
    with pytest.raises(TypeError, match="expected column p to be a list"):
        defend(given, NOISE)
    given = given.astype({"p": pd.ArrowDtype(pa.list_(pa.float32()))})
    assert defend(given, NOISE).equals(given)


@pytest.mark.parametrize("row", [None, float("nan")])
def test_missing_vectors_of_pandas_are_named(row: Any, p: Tensor) -> None:
    given = frame(p)
    given.at[140, "p"] = row
    with pytest.raises(ValueError, match="without missing rows, got null in row 40;"):
        defend(given, NOISE)


def test_entries_that_are_nan_are_named(p: Tensor) -> None:
    given = frame(p)
    given.at[140, "p"] = np.full(K, np.nan, np.float32)
    with pytest.raises(ValueError, match="got row 40 otherwise"):
        defend(given, NOISE)


def test_vectors_of_several_lengths_or_kinds(p: Tensor) -> None:
    given = frame(p)
    given.at[140, "p"] = np.array([0.5, 0.5], np.float32)
    with pytest.raises(ValueError, match="K=5 in row 0 and K=2 in row 40"):
        defend(given, NOISE)
    given.at[140, "p"] = "0.5, 0.5"
    with pytest.raises(TypeError, match="expected column p to hold arrays of one dtype"):
        defend(given, NOISE)


@pytest.mark.parametrize(
    "raw", [[0.5, 0.5], np.ones(3), np.ones((2, 2)), {"cat": 0.5}, torch.ones(3), [np.ones(2)]]
)
def test_further_pandas_columns_of_fractions_are_refused(raw: Any, p: Tensor) -> None:
    given = frame(p, raw=[raw] * N)
    with pytest.raises(ValueError, match=r"no further columns of several fractions .* got raw:"):
        defend(given, NOISE)
    assert "raw" not in defend(given, NOISE, drop="raw")
    assert defend(given, NOISE, keep="raw")["raw"].iloc[0] is raw
    kept = defend(frame(p, words=[["a", "b"]] * N, counts=[[1, 2]] * N, none=None), NOISE)
    assert list(kept.columns)[3:] == ["words", "counts", "none"]


def test_pandas_columns_that_are_not_there(p: Tensor) -> None:
    with pytest.raises(
        ValueError, match=r"expected one column 'q', got 0; the columns are \['user'"
    ):
        defend(frame(p), NOISE, column="q")
    twice = pd.concat([frame(p)["p"]] * 2, axis=1)
    with pytest.raises(ValueError, match="expected one column 'p', got 2"):
        defend(twice, NOISE)


def test_polars(p: Tensor) -> None:
    pl = pytest.importorskip("polars")
    for kind in (pl.Array(pl.Float32, K), pl.List(pl.Float32), pl.List(pl.Float64)):
        series = pl.Series("p", p.numpy().tolist(), dtype=kind)
        given = pl.DataFrame([pl.Series("user", range(N)), series, pl.Series("at", range(N))])
        asked = p.double() if kind.inner == pl.Float64 else p
        asked = torch.tensor(series.to_list(), dtype=asked.dtype)
        found = defend(given, NOISE)
        assert found.schema == given.schema
        assert found["p"].to_list() == NOISE(asked).tolist()
        assert found.drop("p").equals(given.drop("p"))
        found = defend(given, NOISE, ids="user", drop="at")
        assert found.columns == ["user", "p"]
        assert found["p"].to_list() == NOISE(asked, ids=list(range(N))).tolist()
        alone = defend(given["p"], NOISE)
        assert isinstance(alone, pl.Series) and alone.name == "p" and alone.dtype == kind
        assert alone.to_list() == NOISE(asked).tolist()
        with pytest.raises(ValueError, match=r"no further columns of several fractions .* raw"):
            defend(given.with_columns(raw=given["p"]), NOISE)
        with pytest.raises(ValueError, match="expected one column 'q', got none"):
            defend(given, NOISE, column="q")
        assert defend(given.head(0), NOISE).schema == given.schema
