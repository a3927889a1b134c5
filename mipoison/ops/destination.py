"""The tensor or array that a caller gives as out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn import Parameter

from mipoison.ops import validation as check
from mipoison.ops.arrays import holds_tensors


def as_destination(out: Any, given: Any, rows: Tensor) -> Tensor:
    """The tensor over out's memory, checked to match the given rows.

    Raises:
        TypeError: if it is of another kind or dtype.
        ValueError: if its shape or device is another, or its memory cannot be written.
        RuntimeError: under a transform of torch.func, or for rows with a tangent.
    """
    if not torch.compiler.is_compiling() and (
        torch._C._are_functorch_transforms_active()
        or forward_ad.unpack_dual(rows).tangent is not None
    ):
        raise RuntimeError(
            "expected no out under a transform of torch.func or with forward-mode derivatives, got one: what is "
            "written into a given tensor has no derivative; leave out away, or use .detach()"
        )
    kind = Tensor if holds_tensors(given) else np.ndarray
    if not isinstance(out, kind):
        raise TypeError(
            f"expected out to be a {kind.__name__} as the rows are, got {type(out).__name__}"
        )
    if isinstance(out, np.ndarray):
        if not out.flags.writeable:
            raise ValueError("expected out to be writable, got a read-only array; pass a copy")
        if any(stride < 0 or stride % out.itemsize for stride in out.strides):
            raise ValueError(
                f"expected out with strides >= 0 of whole entries, got {out.strides} bytes; "
                "pass np.empty_like(out)"
            )
        dtype = rows.numpy().dtype
        if out.dtype != dtype:
            raise TypeError(f"expected out of dtype {dtype}, got {out.dtype}")
        out = torch.from_numpy(out)
    if not torch.compiler.is_compiling() and out.is_neg():
        raise ValueError(
            "expected out whose memory holds its entries, got a view that negates them; pass torch.empty_like(out)"
        )
    into = check.same_rows("out", out, rows)
    if not torch.compiler.is_compiling() and _has_memory(into) and _overlaps_itself(into):
        raise ValueError(
            f"expected out whose entries have memory of their own, got some that share theirs (strides "
            f"{tuple(into.stride())}, shape {tuple(into.shape)}); pass torch.empty_like(rows) or a copy"
        )
    return into


def overwrites(out: Tensor, **inputs: Tensor | None) -> bool:
    """Whether writing into out changes an input.

    Raises:
        ValueError: if it overlaps an input in part: rows would be read after they were written.
    """
    touched = False
    for name, x in _touched(out, inputs):
        touched = True
        # A result that is not contiguous is computed in a new tensor, so only a contiguous one can conflict.
        if out.is_contiguous() and not _same_rows(out, x):
            raise ValueError(
                f"expected out to be {name} itself or to share no memory with it, got a part of its memory; pass "
                + (f"out={name} or a new tensor" if x.dtype == out.dtype else "a new tensor")
            )
    return touched


def require_apart(out: Tensor, **inputs: Tensor | None) -> None:
    """Raises ValueError if out shares memory with an input of which every row may be read for each row."""
    for name, _ in _touched(out, inputs):
        if out.is_contiguous():
            raise ValueError(
                f"expected out to share no memory with {name}, got a part of its memory; pass a new tensor"
            )


def _touched(out: Tensor, inputs: Mapping[str, Tensor | None]) -> Iterator[tuple[str, Tensor]]:
    """The inputs whose memory meets that of out."""
    # (Compiled graphs handle aliases.)
    if torch.compiler.is_compiling() or not _has_memory(out):
        return
    begin, end = _stretch(out)
    for name, x in inputs.items():
        if x is None or x.device != out.device or not _has_memory(x):
            continue
        first, last = _stretch(x)
        if first < end and last > begin:
            yield name, x


def _overlaps_itself(x: Tensor) -> bool:
    """Whether two entries of the tensor have the same memory."""
    axes = sorted((stride, n) for stride, n in zip(x.stride(), x.shape, strict=True) if n > 1)
    reach = 0
    for stride, n in axes:
        if stride <= reach:
            break
        reach += (n - 1) * stride
    else:
        return False
    # Axes that are interleaved need not meet: what counts is whether two entries do.
    places = torch.zeros((), dtype=torch.int64, device="cpu")
    for stride, n in axes:
        places = (places.unsqueeze(-1) + stride * torch.arange(n, device="cpu")).flatten()
    return len(places.unique()) < len(places)


def _same_rows(x: Tensor, y: Tensor) -> bool:
    """Whether an input is the contiguous tensor x."""
    same = x.data_ptr() == y.data_ptr() and x.dtype == y.dtype and x.shape == y.shape
    return same and y.is_contiguous()


def _has_memory(x: Tensor) -> bool:
    """Whether the tensor has memory; meta tensors and the subclasses used in tracing have none."""
    if x.is_meta or x.numel() == 0:
        return False
    if type(x) in (Tensor, Parameter):
        return True
    try:
        return x.data_ptr() != 0
    except RuntimeError:
        return False


def _stretch(x: Tensor) -> tuple[int, int]:
    """Addresses of the first byte and past the last."""
    begin = x.data_ptr()
    if x.is_contiguous():
        return begin, begin + x.nbytes
    last = sum((n - 1) * stride for n, stride in zip(x.shape, x.stride(), strict=True))
    return begin, begin + (last + 1) * x.element_size()
