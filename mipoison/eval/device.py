"""Where adversaries' networks are trained: on a GPU, where torch has one."""

from __future__ import annotations

import torch


def training_device() -> torch.device:
    """The first GPU that torch can use, or else the CPU.

    Numbers that were measured on a GPU differ from a CPU's in their last digits; results.json says which it was.
    """
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Names it for the record, "cpu" or the GPU's own name."""
    device = training_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
