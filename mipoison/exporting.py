"""Whether `torch.export` is tracing, in every supported version of torch."""

from __future__ import annotations

import torch


def exporting() -> bool:
    """`torch.compiler.is_exporting`, which in torch 2.11 is true under `torch.compile` as well; this flag is not."""
    flag: bool = torch.compiler._is_exporting_flag
    return flag
