"""Make probability vectors of what people have: logits, percent, 16 bits, rounded or cut-off vectors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
import torch
from torch import Tensor

from mipoison.audit.reading.found import Array, named
from mipoison.ops.numbers import as_number
from mipoison.ops.validation import require_probabilities
from mipoison.reference.rounding import FARTHEST, SUM_TOLERANCE

_TOLERANCE: Final = SUM_TOLERANCE[torch.float32]
_COARSE: Final = SUM_TOLERANCE[torch.float16]
_DECIMALS: Final = 6
# Rounding may move a sum so far; where it could move it farther, a wrong sum would not be told from a rounded one.
_FARTHEST_SUM: Final = 0.25
_PERCENT: Final = (90.0, 110.0)
HOTTEST: Final = 1e6
# So many rows have the same number of entries above zero where an endpoint answers with its top k.
_ALIKE: Final = 0.9
_LOGITS: Final = "logits or logarithms of probabilities go in with --logits"
_NONE: Final = (
    "if a column that is no class is among them, --vectors-prefix or --vectors-name leaves it out"
)
# Sums of nearly all rows that differ by less, as a share, are the same.
_SAME_SUM: Final = 1e-3
_NEARLY: Final = 0.99


def require_count(called: str, shape: Sequence[int], count: int, of: str) -> None:
    """Raises ValueError where there are not as many vectors as inputs; of vectors that are transposed it says so.

    Args:
        called: the file and array, for messages.
        shape: of the vectors as they came.
        count: how many inputs there are.
        of: what the inputs are called, such as "images".
    """
    if len(shape) == 2 and shape[0] != count and shape[1] == count:
        raise ValueError(
            f"{called}: expected vectors [{count}, K], got {list(shape)}, which is transposed; save its transpose, p.T"
        )
    if not shape or shape[0] != count:
        raise ValueError(
            f"{called}: expected as many vectors as {of}, got {shape[0] if shape else 'one'} and {count}; give each of "
            "them one, in the same order"
        )


def as_columns(called: str, outputs: Array) -> Array:
    """Vectors [N, K], or [N, 1] where there is one number a row.

    Raises:
        ValueError: if they are labels, no numbers, or of other dimensions.
    """
    if outputs.dtype.kind not in "fiub":
        kind = "text" if outputs.dtype.kind in "UST" else str(outputs.dtype)
        raise ValueError(
            f"{called}: expected vectors of numbers, [N, K], got {kind}; give what predict_proba or softmax returned"
        )
    if outputs.ndim not in (1, 2) or outputs.shape[-1] == 0:
        raise ValueError(
            f"{called}: expected vectors [N, K], got {list(outputs.shape)}; give one vector for each input"
        )
    columns = outputs.reshape(len(outputs), -1)
    if columns.shape[1] == 1 and np.array_equal(columns, np.round(columns)):
        raise ValueError(
            f"{called}: expected confidence vectors [N, K], got one whole number a row, which are labels; give all "
            "entries of the vectors, as predict_proba or softmax returned them"
        )
    return columns


def as_probabilities(
    called: str,
    outputs: Array,
    names: Sequence[str],
    notes: list[str],
    *,
    logits: bool = False,
    temperature: float = 1.0,
) -> Tensor:
    """Probability vectors, float32 [N, K].

    Args:
        called: the file and array, for messages.
        outputs: [N, K], or [N, 1] of two classes; see `as_columns`.
        names: of the rows.
        notes: gets a line for each thing that was done or looks odd.
        logits: whether they are logits (logarithms of probabilities are such).
        temperature: what logits are divided by, > 0.

    Raises:
        ValueError: for NaN, infinite or negative entries, sums that are not one for any known reason, vectors that all
            have one class on top, or that have a single entry that is not zero; the first bad rows are named.
    """
    temperature = as_number("temperature", temperature, 0.0, HOTTEST, open_low=True)
    wide = outputs.dtype != np.float32
    values = outputs.astype(np.float64) if wide else outputs
    _require_finite(called, values, names)
    single = values.shape[1] == 1
    if logits:
        if single:
            values = np.concatenate((np.zeros_like(values), values), 1)
        p = _softmax(called, values, names, temperature, notes)
    elif temperature != 1.0:
        raise ValueError(
            f"temperature: expected 1 for vectors that are probabilities, got {temperature:g}; it divides logits, "
            "which go in with --logits"
        )
    else:
        if single:
            if values.min() < 0 or values.max() > 1:
                percent = values.min() >= 0 and 1 < values.max() <= 100
                mend = "divide percent by 100" if percent else _LOGITS
                raise ValueError(
                    f"{called}: expected the probability of one of two classes in [0, 1], got numbers from "
                    f"{values.min():.4g} to {values.max():.4g}; {mend}"
                )
            notes.append(
                "the one number of each row was taken for the probability of the second of two classes"
            )
            values = np.concatenate((1.0 - values, values), 1)
        p = _normalised(called, values, outputs.dtype, names, notes)
    found = torch.from_numpy(p.astype(np.float32))
    require_probabilities(called, found)
    _require_informative(called, found, notes)
    return found


def _require_finite(called: str, values: Array, names: Sequence[str]) -> None:
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise ValueError(
            f"{called}: expected finite numbers, got NaN or infinite ones in {named(bad, names)}; leave these rows out"
        )


def _softmax(
    called: str, values: Array, names: Sequence[str], temperature: float, notes: list[str]
) -> Array:
    far = (np.abs(values) > FARTHEST).any(1)
    if far.any():
        raise ValueError(
            f"{called}: expected logits within {FARTHEST:g} of zero, got larger ones in {named(far, names)}; leave "
            "these rows out"
        )
    if (kind := _already(values)) is not None:
        raise ValueError(
            f"{called}: expected logits, got vectors that are {kind} already; leave --logits out"
            + ("" if "times" not in kind else ", and divide each by its sum")
        )
    if values.min() >= 0:
        notes.append("no logit is negative: are these logits?")
    p: Array = torch.softmax(torch.from_numpy(values).double() / temperature, 1).numpy()
    return p


def _already(values: Array) -> str | None:
    """What numbers >= 0 are whose sums are as those of probabilities in most rows; None: logits."""
    if values.min() < 0:
        return None
    middle = float(np.median(values.sum(1, dtype=np.float64)))
    if _PERCENT[0] <= middle <= _PERCENT[1]:
        return "probabilities in percent"
    # (Zeros are what was cut off; logits that are in [0, 1] have none.)
    least = 0.0 if bool((values == 0).any(1).mean() > 0.5) else _PERCENT[0]
    near = values.max() <= 1.0 + _TOLERANCE and least < 100.0 * middle <= _PERCENT[1]
    if near:
        return "probabilities"
    return f"probabilities times {middle:.4g}" if _scaled(values) else None


def _scaled(values: Array) -> bool:
    """Whether numbers >= 0 have the same sum in nearly all rows, as probabilities times a constant, rounded or not."""
    totals = values.sum(1, dtype=np.float64)
    middle = float(np.median(totals))
    rounded = np.array_equal(values, np.round(values))
    slack = 0.5 * values.shape[1] if rounded else _SAME_SUM * middle
    return middle > 0 and bool((np.abs(totals - middle) <= slack).mean() >= _NEARLY)


def _normalised(
    called: str, values: Array, dtype: np.dtype[np.generic], names: Sequence[str], notes: list[str]
) -> Array:
    """Rows divided by their sums, where these are one but for what the way they were written explains."""
    totals = values.sum(1, dtype=np.float64)
    if values.max() > 1.0 and _PERCENT[0] <= np.median(totals) <= _PERCENT[1]:
        notes.append("vectors in percent were divided by 100")
        values, totals = values / 100.0, totals / 100.0
    classes = values.shape[1]
    tolerance, below = _TOLERANCE, _TOLERANCE
    decimals = _decimals(values)
    if dtype == np.float16 or _is_16_bit(values):
        tolerance = below = _COARSE
        notes.append("vectors of 16 bits were brought to the sum of one")
    elif decimals is not None:
        off = min(_FARTHEST_SUM, 0.5 * 10.0**-decimals * classes)
        tolerance = below = max(_TOLERANCE, off)
        notes.append(
            f"the vectors are rounded to {decimals} decimals, which hides something already; rounding them less shows "
            "what the full vectors leak"
        )
    counts = (values != 0).sum(1)
    kept = int(counts.max())
    if kept < classes and (counts == kept).mean() >= _ALIKE:
        below = 1.0
        notes.append(
            f"at most {kept} of the {classes} entries of each vector are not zero: they were cut off; without that, "
            "the full vectors may leak more"
        )
    fits = (values >= 0).all(1) & (totals > 0) & (totals - 1 <= tolerance) & (1 - totals <= below)
    if not fits.all():
        raise ValueError(f"{called}: {_described(values, totals, ~fits, names)}")
    if below == 1.0 and bool((1 - totals > tolerance).any()):
        notes.append("vectors that lack entries were divided by their sums")
    shares: Array = values / totals[:, None]
    return shares


def _described(values: Array, totals: Array, bad: Array, names: Sequence[str]) -> str:
    first = int(np.flatnonzero(bad)[0])
    row, total = values[first], float(totals[first])
    negative = float(row.min()) < 0
    why = f"its smallest entry is {row.min():.4g}" if negative else f"its sum is {total:.6g}"
    if (values < 0).any():
        mend = _LOGITS
    elif bad.mean() > 0.5 and _scaled(values):
        mend = "divide each vector by its sum"
    elif bad.mean() > 0.5 and values.max() <= 1:
        mend = (
            "scores of separate sigmoids are no confidence vector: audit one class at a time, its score alone; "
            f"{_NONE}"
        )
    elif bad.mean() > 0.5:
        mend = f"{_LOGITS}; {_NONE}"
    else:
        mend = "mend these rows or leave them out"
    return (
        f"expected probability vectors (entries >= 0, sum 1), got {int(bad.sum())} of {len(bad)} rows otherwise, "
        f"{named(bad, names)} ({names[first]}: {why}); {mend}"
    )


def _is_16_bit(values: Array) -> bool:
    """Whether every number is one of float16 or bfloat16, and more than whole numbers are among them."""
    if np.array_equal(values, np.round(values)):
        return False
    numbers = torch.from_numpy(np.ascontiguousarray(values))
    return any(
        torch.equal(numbers, numbers.to(kind).to(numbers.dtype))
        for kind in (torch.float16, torch.bfloat16)
    )


def _decimals(values: Array) -> int | None:
    """How many decimals all entries are rounded to, 1 to 6; None if they have more."""
    for decimals in range(1, _DECIMALS + 1):
        # What cannot be told from rounded numbers within their own precision.
        scaled = values.astype(np.float64) * 10.0**decimals
        slack = 2.0 * np.spacing(np.abs(values)).astype(np.float64) * 10.0**decimals
        if bool((np.abs(scaled - np.round(scaled)) <= slack).all()):
            return decimals if slack.max() < 0.1 else None
    return None


def _require_informative(called: str, p: Tensor, notes: list[str]) -> None:
    """Raises ValueError where vectors say no more than labels, or all the same label."""
    top = p.argmax(1)
    if bool((top == top[0]).all()):
        raise ValueError(
            f"{called}: expected vectors of several classes, got class {int(top[0])} (from 0) on top in all rows; an "
            "audit compares with what the label alone gives away: add inputs of other classes"
        )
    hot = (p != 0).sum(1) == 1
    if bool(hot.all()):
        raise ValueError(
            f"{called}: expected vectors with several entries above zero, got one in every row, which are labels: "
            "there is nothing to audit beyond the label; give the vectors as they were before they were rounded"
        )
    if bool(hot.any()):
        notes.append(
            f"{int(hot.sum())} of {len(hot)} vectors have a single entry that is not zero: they are labels"
        )
