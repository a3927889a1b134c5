"""What `mipoison audit` is told of the data that it reads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Options:
    """How inputs and vectors are read; messages of wrong ones begin with the name of the field.

    Attributes:
        vectors: file of the vectors (npz, npy, CSV or Parquet) where they are not beside the inputs.
        model: what answers instead of vectors: "module:name", or a file of TorchScript or torch.export.
        inputs_name: array of an npz, or list column of a table (embeddings), that holds the inputs.
        vectors_name: array of an npz, or column of a table, that holds the vectors.
        vectors_prefix: what the names of a table's columns of vectors begin with, one column a class.
        categorical: columns of numbers that are codes of categories.
        leave_out: columns of a table that are no attributes; a model that names them gets them all the same.
        group: column or array of who or what a row belongs to; of a folder, "folder": rows of one folder.
        missing: further texts that stand for a missing value in a CSV.
        shape: "H,W", "H,W,C" or "C,H,W" of images that are stored as rows, or whose channels could be either.
        size: "48" or "H,W" that images are averaged to.
        logits: whether vectors are logits; of a model's, or those called so, negative ones tell it, too.
        temperature: what logits are divided by.
    """

    vectors: Path | None = None
    model: str | None = None
    inputs_name: str | None = None
    vectors_name: str | None = None
    vectors_prefix: str | None = None
    categorical: tuple[str, ...] = ()
    leave_out: tuple[str, ...] = ()
    group: str | None = None
    missing: tuple[str, ...] = ()
    shape: str | None = None
    size: str | None = None
    logits: bool = False
    temperature: float = 1.0


# What arrays and columns are called where no option names them.
VECTORS = ("p", "outputs", "vectors", "probs", "probabilities", "logits")
INPUTS = ("x", "inputs", "images", "embeddings")
# Columns that name files.
FILES = ("file", "filename", "file_name", "path", "image", "name")
