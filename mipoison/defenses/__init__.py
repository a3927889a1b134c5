"""Policies on rows: the paper's two defenses, the wrapper that serves them, and the baselines."""

from mipoison.defenses.base import Defense
from mipoison.defenses.baselines import (
    Contract,
    GaussianNoise,
    HighConfidence,
    LabelOnly,
    LaplaceNoise,
    ModelGuardS,
    ModelGuardW,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Rounding,
    Swap,
    Temperature,
    TopK,
)
from mipoison.defenses.defended import Defended
from mipoison.defenses.deferred import Deferred
from mipoison.defenses.lfp import LFP
from mipoison.defenses.loading import load
from mipoison.defenses.lpa import LPA

__all__ = [
    "LFP",
    "LPA",
    "Contract",
    "Defended",
    "Defense",
    "Deferred",
    "GaussianNoise",
    "HighConfidence",
    "LabelOnly",
    "LaplaceNoise",
    "ModelGuardS",
    "ModelGuardW",
    "OneParameter",
    "Purifier",
    "ReverseSigmoid",
    "Rounding",
    "Swap",
    "Temperature",
    "TopK",
    "load",
]
