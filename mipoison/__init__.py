"""Poison a classifier's confidence vectors before they leave, so that model inversion fails.

See https://arxiv.org/abs/2412.07575 for the two methods: LPA, label-preserving poisoning of all
output vectors, and LFP, label-flipping poisoning of a small subset.
"""

from importlib.metadata import version as _version

from mipoison.certificates import Certificate, certify
from mipoison.defenses import LFP, LPA, Defended, Deferred, load
from mipoison.defenses.lfp import lfp
from mipoison.defenses.lpa import lpa
from mipoison.keys import Key
from mipoison.ops import backends, flip, move, perturb, project, quantize, recover, row_bits, step
from mipoison.serve import Drift, Meter
from mipoison.surrogate import Surrogate

__version__ = _version("mipoison")

__all__ = [
    "LFP",
    "LPA",
    "Certificate",
    "Defended",
    "Deferred",
    "Drift",
    "Key",
    "Meter",
    "Surrogate",
    "backends",
    "certify",
    "flip",
    "lfp",
    "load",
    "lpa",
    "move",
    "perturb",
    "project",
    "quantize",
    "recover",
    "row_bits",
    "step",
]
