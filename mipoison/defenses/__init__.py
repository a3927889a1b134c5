"""Policies on rows: the paper's two defenses, the wrapper that serves them, and the baselines."""

from mipoison.defenses.base import Defense
from mipoison.defenses.baselines import GaussianNoise, LabelOnly, LaplaceNoise, Rounding
from mipoison.defenses.defended import Defended
from mipoison.defenses.lfp import LFP
from mipoison.defenses.lpa import LPA

__all__ = [
    "LFP",
    "LPA",
    "Defended",
    "Defense",
    "GaussianNoise",
    "LabelOnly",
    "LaplaceNoise",
    "Rounding",
]
