"""Vectors in Arrow columns: read as [N, K] without a copy, and written in the type of the column."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.types as kinds
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

from mipoison.ops.validation import name_rows

_LISTS: Final = "a list, large_list or fixed_size_list of float16, float32 or float64"


def stored(kind: pa.DataType) -> pa.DataType:
    """What a type is stored as; the type itself, unless it is an extension."""
    return kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind


def holds_floats(kind: pa.DataType) -> bool:
    """Whether one row of a column can hold several fractions: a list, struct or map with numbers that are not whole."""
    kind = stored(kind)
    if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind):
        return holds_floats(kind.value_type)
    inner = [stored(kind.field(i).type) for i in range(kind.num_fields)]
    return any(kinds.is_floating(x) or kinds.is_decimal(x) or holds_floats(x) for x in inner)


def require_vectors(name: str, kind: pa.DataType) -> None:
    """Raises TypeError for a type that holds no vectors."""
    lists = stored(kind)
    plain = (
        kinds.is_list(lists) or kinds.is_large_list(lists) or kinds.is_fixed_size_list(lists)
    ) and kinds.is_floating(lists.value_type)
    # (Also the types of other libraries, such as Ray's.)
    tensors = len(getattr(kind, "shape", None) or ()) == 1
    if plain and (kind is lists or tensors):
        return
    raise TypeError(
        f"expected column {name} to be {_LISTS}, or a tensor of one dimension, got {kind}; cast it, or "
        "name the columns of the classes where each has its own"
    )


def require_numbers(name: str, kind: pa.DataType) -> None:
    """Raises TypeError for a type that is no float."""
    if not kinds.is_floating(kind):
        raise TypeError(
            f"expected column {name} to be of float16, float32 or float64, got {kind}; cast it"
        )


def answered(kind: pa.DataType, decimals: int | None) -> pa.DataType:
    """The type of the answers: that of the outputs, but with float64 where there are decimals.

    Tensors of other libraries, whose types cannot be changed here, become lists then.
    """
    if decimals is None:
        return kind
    if kinds.is_floating(kind):
        return pa.float64()
    if isinstance(kind, pa.FixedShapeTensorType):
        return pa.fixed_shape_tensor(
            pa.float64(), kind.shape, dim_names=kind.dim_names, permutation=kind.permutation
        )
    kind = stored(kind)
    entry = kind.value_field.with_type(pa.float64())
    if kinds.is_fixed_size_list(kind):
        return pa.list_(entry, kind.list_size)
    return pa.large_list(entry) if kinds.is_large_list(kind) else pa.list_(entry)


def rows_of(name: str, column: pa.Array) -> Tensor:
    """The vectors of a column of lists, not empty: [N, K], over the memory of the column, which is not to be changed.

    Raises:
        ValueError: for missing rows or entries, or vectors of several lengths; the rows are named.
    """
    require_present(name, column)
    lists = column.storage if isinstance(column, pa.ExtensionArray) else column
    if kinds.is_fixed_size_list(lists.type):
        k = lists.type.list_size
    else:
        lengths = lists.value_lengths().to_numpy(zero_copy_only=False)
        k = int(lengths[0])
        other: npt.NDArray[np.bool_] = np.not_equal(lengths, k)
        if other.any():
            first = int(other.argmax())
            raise ValueError(
                f"expected vectors of one length in column {name}, got K={k} in row 0 and K={int(lengths[first])} in "
                f"row {first}, and another than {k} in {_named(other)}"
            )
    entries = lists.flatten()
    if entries.null_count:
        missing = np.asarray(_mask(entries).reshape(-1, k).any(1))
        raise ValueError(
            f"expected column {name} without missing entries, got some in {_named(missing)}; fill them, or leave their "
            "rows out"
        )
    # (Not through NumPy: torch warns of its arrays, which are read-only here.)
    return from_dlpack(entries).view(len(lists), k)


def stacked(names: tuple[str, ...], columns: list[pa.Array]) -> Tensor:
    """The vectors of a column for each class: [N, K], a copy.

    Raises:
        ValueError: for missing entries; the rows are named.
    """
    for name, column in zip(names, columns, strict=True):
        require_present(name, column)
    return torch.stack([from_dlpack(column) for column in columns], 1)


def column_of(answers: Tensor, kind: pa.DataType) -> pa.Array:
    """Answers [N, K] as a column of a type that `answered` gave, over their memory."""
    n, k = answers.shape
    lists = stored(kind)
    entries = pa.array(answers.contiguous().view(-1).numpy())
    if kinds.is_fixed_size_list(lists):
        column = pa.FixedSizeListArray.from_arrays(entries, type=lists)
    else:
        large = kinds.is_large_list(lists)
        offsets = np.arange(0, n * k + 1, k, dtype=np.int64 if large else np.int32)
        made = pa.LargeListArray if large else pa.ListArray
        column = made.from_arrays(pa.array(offsets), entries, type=lists)
    return column if kind is lists else pa.ExtensionArray.from_storage(kind, column)


def empty_column(kind: pa.DataType) -> pa.Array:
    """No answers."""
    column = pa.array([], stored(kind))
    return column if kind is stored(kind) else pa.ExtensionArray.from_storage(kind, column)


def ids_of(name: str, column: pa.Array) -> Any:
    """Identities of requests, as `Defense.forward` takes them.

    Raises:
        ValueError: for missing ones; the rows are named.
    """
    require_present(name, column)
    if kinds.is_integer(column.type):
        return column.to_numpy(zero_copy_only=False)
    return column.to_pylist()


def require_present(name: str, column: pa.Array) -> None:
    """Raises ValueError naming the rows that are missing."""
    if column.null_count:
        raise ValueError(
            f"expected column {name} without missing rows, got null in {_named(_mask(column))}; leave them out"
        )


def _mask(column: pa.Array) -> npt.NDArray[np.bool_]:
    mask: npt.NDArray[np.bool_] = column.is_null().to_numpy(zero_copy_only=False)
    return mask


def _named(rows: npt.NDArray[np.bool_]) -> str:
    return name_rows(torch.from_numpy(rows))
