"""What LPA has to beat, with the same interface; one file each."""

from mipoison.defenses.baselines.contract import Contract
from mipoison.defenses.baselines.high_confidence import HighConfidence
from mipoison.defenses.baselines.label_only import LabelOnly
from mipoison.defenses.baselines.modelguard import ModelGuardS, ModelGuardW
from mipoison.defenses.baselines.noise import GaussianNoise, LaplaceNoise
from mipoison.defenses.baselines.one_parameter import OneParameter
from mipoison.defenses.baselines.purifier import Purifier
from mipoison.defenses.baselines.reverse_sigmoid import ReverseSigmoid
from mipoison.defenses.baselines.rounding import Rounding
from mipoison.defenses.baselines.swap import Swap
from mipoison.defenses.baselines.temperature import Temperature
from mipoison.defenses.baselines.top_k import TopK

__all__ = [
    "Contract",
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
]
