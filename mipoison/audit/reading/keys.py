"""What the values of a column say of which row is which: as texts, so that columns of two files can be compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import numpy as np

from mipoison.audit.reading.found import Array


def as_texts(values: Array | Sequence[Any]) -> Array | None:
    """Texts [N], empty where a value is missing; None for fractions: two files may have rounded them otherwise.

    Whole numbers are the same text whatever their type: 3, 3.0 and "3" are one.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuU":
        return values.astype(str)
    texts = [_text(value) for value in values]
    return None if None in texts else np.array(texts, str)


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return ""
    if isinstance(value, (float, np.floating, Decimal)):
        number = float(value)
        return str(int(value)) if math.isfinite(number) and number == int(number) else None
    if isinstance(value, bytes):
        text = value.decode(errors="ignore")
        return text if text.encode() == value and text.isprintable() else value.hex()
    return str(value)
