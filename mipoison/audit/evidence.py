"""State what an audit looks at: inputs, the vectors that a classifier answered, and what was left out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from torch import Tensor

KINDS: Final = ("images", "table", "embeddings")


@dataclass(frozen=True)
class Column:
    """One column of a table, and where it stands in the inputs.

    Attributes:
        name: what the table calls it.
        categories: of a categorical column, its values in the order of their inputs, one input each (1 where a row has
            the value, else 0); empty for a number, which is one input, standardized to mean 0 and variance 1.
        first: position of its first input.
        mean: of a number, before it was standardized.
        scale: its standard deviation, before.
    """

    name: str
    categories: tuple[str, ...]
    first: int
    mean: float = 0.0
    scale: float = 1.0

    @property
    def width(self) -> int:
        """How many inputs it takes."""
        return max(1, len(self.categories))


@dataclass(frozen=True)
class Skipped:
    """A file or row that was left out.

    Attributes:
        name: the file, or the number of the row.
        reason: a short sentence.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What an audit looks at.

    Attributes:
        kind: one of `KINDS`.
        inputs: float32 [N, D]. Of images, pixels in [0, 1], channels last within a row; of a table, see `Column`; of
            embeddings, standardized columns.
        outputs: float [N, K], probability vectors.
        groups: int64 [N]: rows of one group (one person, one photograph and its copies) stay in one role.
        image_shape: height, width and channels (1 or 3) of images; else None.
        columns: of a table, in the order of the inputs; else empty.
        classes: names of the K classes, or empty.
        skipped: what was left out, and why.
        source: how the data is called on the page: names of files, never folders above them.
        notes: what a reader of the page should know of the data: what was renormalised, resized, sampled or looks odd.
    """

    kind: str
    inputs: Tensor
    outputs: Tensor
    groups: Tensor
    image_shape: tuple[int, int, int] | None = None
    columns: tuple[Column, ...] = ()
    classes: tuple[str, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    source: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.inputs)
