"""Every operation in plain PyTorch: the mathematics, computed in float64 on any device, the oracle of the kernels.

The signatures are those of the registered operators (see `mipoison.ops.library`), except that a
mask of valid rows stands where the operators count the invalid ones.
"""

from mipoison.random import row_words as row_bits
from mipoison.reference.bank import nearest, pick_each, solitary
from mipoison.reference.choose_move import approach, choose_move
from mipoison.reference.clean import clean, distance, lead, lose_label, soften, stray
from mipoison.reference.flip import flip
from mipoison.reference.keyed_step import keyed_step
from mipoison.reference.move import move
from mipoison.reference.network import distances, perturb, pull, recover
from mipoison.reference.project import feasible_rows, prepare, project, project_vjp, solve
from mipoison.reference.quantize import quantize
from mipoison.reference.rounding import label_of, valid_rows
from mipoison.reference.step import step

__all__ = [
    "approach",
    "choose_move",
    "clean",
    "distance",
    "distances",
    "feasible_rows",
    "flip",
    "keyed_step",
    "label_of",
    "lead",
    "lose_label",
    "move",
    "nearest",
    "perturb",
    "pick_each",
    "prepare",
    "project",
    "project_vjp",
    "pull",
    "quantize",
    "recover",
    "row_bits",
    "soften",
    "solitary",
    "solve",
    "step",
    "stray",
    "valid_rows",
]
