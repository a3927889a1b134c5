"""Hold what a source has before it is checked, choose rows where there are too many, and name rows in messages."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mipoison.audit.evidence import Skipped

Array = npt.NDArray[Any]
# An audit uses a few thousand rows in each role, and draws as many itself where there are more.
MOST_ROWS: Final = 20_000
# Bytes of inputs and vectors, in float32: 256 MiB, so that an audit has room in 4 GiB for copies of them (roles,
# reconstructions, defended vectors) beside torch.
MOST_BYTES: Final = 1 << 28
# Of inputs as they are read, before images are resized.
_MOST_RAW: Final = 1 << 30
_NAMED: Final = 5
# Longer texts are cut in messages: they may be what somebody wrote.
_LONG: Final = 60


@dataclass
class Found:
    """What a source has.

    Attributes:
        kind: see `Evidence`.
        inputs: of images [N, H, W, C], of embeddings [N, D], any dtype of numbers; of a table an Arrow table.
        names: of the N rows, such as "row 17" or "cat/3.png".
        batches: the inputs as a model takes them, a few rows at a time.
        outputs: the vectors as they came, [N, K] or not; None: a model answers.
        groups: [N] of any values; None: each row is its own.
        labels: [N] of any values, the true classes; None: unknown.
        called: the file and array of the inputs, for messages.
        vectors_called: that of the vectors.
        logits: whether the vectors are said to be logits by what they are called.
    """

    kind: str
    inputs: Any
    names: Sequence[str]
    batches: Callable[[], Iterator[Any]]
    outputs: Array | None = None
    groups: Array | None = None
    labels: Array | None = None
    classes: tuple[str, ...] = ()
    called: str = ""
    vectors_called: str = ""
    logits: bool = False
    skipped: list[Skipped] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def sampled(
    count: int, numbers: int, notes: list[str], what: str = "rows", *, raw: int = 1
) -> npt.NDArray[np.int64] | None:
    """Positions of the rows that an audit looks at, ascending, the same each time; None: all.

    Args:
        count: how many there are.
        numbers: of one row, inputs and vector.
        notes: gets a line where some are left out.
        what: they are called.
        raw: bytes of one row as it is read.

    Raises:
        ValueError: if a row is so long that too few could be held.
    """
    most = min(MOST_ROWS, MOST_BYTES // (4 * max(1, numbers)), _MOST_RAW // max(1, raw))
    if _MOST_RAW // max(1, raw) < FEWEST_ROWS:
        raise ValueError(
            f"inputs: expected rows of at most {_MOST_RAW / FEWEST_ROWS / 2**20:.1f} MiB, so that an audit stays "
            f"within 4 GiB, got {raw / 2**20:.1f} MiB each; save images smaller, or as bytes"
        )
    if most < FEWEST_ROWS:
        raise ValueError(
            f"inputs: expected rows of at most {MOST_BYTES // (4 * FEWEST_ROWS)} numbers, so that an audit stays "
            f"within 4 GiB, got {numbers}; of images, --size makes them smaller"
        )
    if count <= most:
        return None
    notes.append(
        f"{most} of {count} {what} were drawn at random and looked at, so that an audit keeps to its time and to 4 GiB"
    )
    # (Without the memory of all positions.)
    draw = np.random.default_rng(0).choice(count, most, replace=False, shuffle=False)
    chosen: npt.NDArray[np.int64] = np.sort(draw)
    return chosen


# A quarter of the rows are victims: the mean error over 75 is known to 1/√75, or .12, of the standard deviation. With
# fewer, there are also too few to train an adversary on.
FEWEST_ROWS: Final = 300


def row_names(count: int, keep: npt.NDArray[np.int64] | None = None) -> list[str]:
    """Rows by their number in the source, counted from 0."""
    return [f"row {i}" for i in (range(count) if keep is None else keep.tolist())]


def named(bad: Any, names: Sequence[str]) -> str:
    """The first rows of a mask [N], such as "row 3, row 17 and 4 more"."""
    index = np.flatnonzero(bad)
    more = f" and {len(index) - _NAMED} more" if len(index) > _NAMED else ""
    return ", ".join(names[i] for i in index[:_NAMED]) + more


def listed(names: Iterable[str]) -> str:
    """The first names and the number of the others."""
    given = [_short(name) for name in names]
    more = f" and {len(given) - 2 * _NAMED} more" if len(given) > 2 * _NAMED else ""
    return (", ".join(given[: 2 * _NAMED]) or "nothing") + more


def _short(text: str) -> str:
    return text if len(text) <= _LONG else f"{text[:_LONG]}…"


def require_known(option: str, given: Iterable[str], known: Sequence[str], where: str) -> None:
    """Raises ValueError for the first name that is none of those that are there."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            mend = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(
                f"{option}: expected a name out of {listed(known)} in {where}, got {name}{mend}"
            )


def positions(values: Array) -> npt.NDArray[np.int64]:
    """Whatever the values are, as numbers from 0; equal ones get equal numbers."""
    return np.unique(values, return_inverse=True)[1].reshape(-1).astype(np.int64)
