"""Arrays of other libraries as tensors, wherever a caller passes rows, labels or inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

# Bools, integers and floats. Complex numbers, texts, dates and objects are no confidences, labels or inputs.
_NUMBERS: Final = "biuf"
_TEXTS: Final = "UST"


def holds_tensors(value: Any) -> bool:
    """Whether it is a tensor or a list of tensors, so that the caller gets a tensor back."""
    if isinstance(value, Tensor):
        return True
    return (
        isinstance(value, list | tuple)
        and len(value) > 0
        and all(isinstance(part, Tensor) for part in value)
    )


def as_tensor(name: str, value: Any) -> Tensor:
    """A dense tensor from a tensor, a list of tensors, an ndarray, or what NumPy converts to an array of numbers.

    Read-only, reversed, unaligned and foreign-endian arrays are copied. The index of a DataFrame or Series is ignored.

    Raises:
        TypeError: if it is nothing of the kind, or holds no numbers.
        ValueError: if its parts have several shapes, or some of its entries are masked.
    """
    if isinstance(value, Tensor):
        return _dense(name, value)
    if holds_tensors(value):
        try:
            return torch.stack([_dense(name, part) for part in value])
        except RuntimeError as error:
            raise ValueError(
                f"expected {name} to hold tensors of one shape and device, got {_shapes(value)}"
            ) from error
    return _from_numpy(name, as_array(name, value))


def as_float32(name: str, value: Any, rows: Tensor) -> Tensor:
    """A float32 tensor on the rows' device."""
    tensor = as_tensor(name, value).detach()
    if isinstance(value, list | tuple) and not holds_tensors(value):
        # A list does not say which dtype is meant.
        tensor = tensor.to(torch.float32)
    if tensor.dtype != torch.float32:
        got = str(tensor.dtype).removeprefix("torch.")
        raise TypeError(
            f"expected {name} of float32, got {got}; use .float() or .astype('float32')"
        )
    if tensor.device != rows.device:
        raise ValueError(
            f"expected {name} on {rows.device}, got {tensor.device}; move them there once"
        )
    return tensor


def as_array(name: str, value: Any) -> npt.NDArray[Any]:
    """An array, a sequence or an object with `__array__` as an ndarray of any dtype.

    Raises:
        TypeError: if it is nothing of the kind.
        ValueError: if its parts have several shapes.
    """
    if isinstance(value, np.ndarray):
        return value
    text = isinstance(value, str | bytes | bytearray)
    if text or not (isinstance(value, Sequence | memoryview) or hasattr(value, "__array__")):
        raise TypeError(
            f"expected {name} to be a torch.Tensor, a numpy.ndarray or what numpy.asarray takes, "
            f"got {type(value).__name__}"
        )
    try:
        return np.asarray(value)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ValueError(
            f"expected {name} to have parts of one shape, got a {type(value).__name__} that numpy.asarray refuses "
            f"({error})"
        ) from error


def _from_numpy(name: str, array: npt.NDArray[Any]) -> Tensor:
    """The tensor over an array of numbers, copied where torch cannot read it or must not write to it."""
    if isinstance(array, np.ma.MaskedArray):
        if np.ma.is_masked(array):
            raise ValueError(
                f"expected {name} without masked entries, got {int(np.ma.getmaskarray(array).sum())}; "
                f"fill them ({name}.filled(...)) or leave their rows out"
            )
        array = np.ma.getdata(array)
    if array.dtype.names is not None:
        raise TypeError(
            f"expected {name} to be a plain array, got a structured one with the fields {array.dtype.names}; "
            "use numpy.lib.recfunctions.structured_to_unstructured"
        )
    if array.dtype.kind not in _NUMBERS or array.dtype.itemsize > 8:
        texts = (
            f", and names with numpy.unique({name}, return_inverse=True)[1]"
            if array.dtype.kind in _TEXTS
            else ""
        )
        raise TypeError(
            f"expected {name} to hold numbers, got {array.dtype}; convert them, as with .astype('float32') or "
            f".astype('int64'){texts}"
        )
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.require(native, requirements=["C", "A", "W"]))


def _dense(name: str, x: Tensor) -> Tensor:
    """The tensor, if its layout is dense."""
    if x.is_nested:
        raise TypeError(
            f"expected {name} to be a dense tensor, got a nested one; use torch.stack(x.unbind())"
        )
    if x.layout != torch.strided:
        raise TypeError(
            f"expected {name} to be a dense tensor, got layout {x.layout}; use .to_dense()"
        )
    return x


def _shapes(tensors: Sequence[Tensor]) -> str:
    """The shapes and devices of the first tensor and of the first that differs, in words."""
    first = tensors[0]
    other = next(
        (x for x in tensors if (x.shape, x.device) != (first.shape, first.device)), tensors[-1]
    )
    return " and ".join(f"{tuple(x.shape)} on {x.device}" for x in (first, other))
