"""The operations on rows: checked arguments, `torch.library` operators, choice of backend."""

from mipoison.ops.backends import backends
from mipoison.ops.keyed import flip, row_bits
from mipoison.ops.motion import move
from mipoison.ops.networks import perturb, recover
from mipoison.ops.projection import project, step
from mipoison.ops.quantization import quantize

__all__ = [
    "backends",
    "flip",
    "move",
    "perturb",
    "project",
    "quantize",
    "recover",
    "row_bits",
    "step",
]
