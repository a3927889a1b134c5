"""Arrow tables of vectors, in every type that can hold them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from distributions import draw
from torch import Tensor

N, K = 60, 5
TYPES = {
    "fixed": pa.list_(pa.field("element", pa.float32(), nullable=False), K),
    "list": pa.list_(pa.float32()),
    "large": pa.large_list(pa.float32()),
    "tensor": pa.fixed_shape_tensor(pa.float32(), [K]),
    "double": pa.list_(pa.float64(), K),
    "half": pa.list_(pa.float16(), K),
}


def vectors(n: int = N, k: int = K) -> Tensor:
    """Rows of many shapes."""
    return draw("plain", n, k, seed=5).float()


def column(p: npt.NDArray[np.generic], kind: pa.DataType) -> pa.Array:
    """A column of a type."""
    stored = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    entries = [row.astype(stored.value_type.to_pandas_dtype()) for row in p]
    array = pa.array(entries, stored)
    return array if stored is kind else pa.ExtensionArray.from_storage(kind, array)


def read(found: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.generic]:
    """The vectors of a column, [N, K]."""
    chunks = found.chunks if isinstance(found, pa.ChunkedArray) else [found]
    plain = [x.storage if isinstance(x, pa.ExtensionArray) else x for x in chunks]
    rows = [x.flatten().to_numpy(zero_copy_only=False).reshape(len(x), -1) for x in plain]
    return np.concatenate(rows)


def table(p: Tensor, kind: pa.DataType = TYPES["fixed"]) -> pa.Table:
    """Vectors between other columns, with metadata."""
    n = len(p)
    columns = {
        "user": pa.array([f"user {i}" for i in range(n)]),
        "p": column(p.numpy(), kind),
        "at": pa.array(range(n), pa.timestamp("us")),
        "tags": pa.array([["a"] * (i % 3) for i in range(n)], pa.list_(pa.string())),
    }
    return pa.table(columns).replace_schema_metadata({"made by": "a model"})
