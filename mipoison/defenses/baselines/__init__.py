"""What LPA has to beat, with the same interface; one file each."""

from mipoison.defenses.baselines.label_only import LabelOnly
from mipoison.defenses.baselines.noise import GaussianNoise, LaplaceNoise
from mipoison.defenses.baselines.rounding import Rounding

__all__ = ["GaussianNoise", "LabelOnly", "LaplaceNoise", "Rounding"]
