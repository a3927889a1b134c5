"""Where adversaries' networks are trained: on a GPU, where torch has one."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def training_device() -> torch.device:
    """The first GPU that torch can use, or else the CPU. Each cell of results.json says which it was."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Names it for the record, "cpu" or the GPU's own name."""
    device = training_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def repeatable() -> AbstractContextManager[None]:
    """Convolutions that repeat themselves, in float32 throughout; without effect on the CPU, where they do anyway."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return context
