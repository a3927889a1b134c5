"""The adversaries: each learns from served vectors and reconstructs inputs.

Every adversary is a small class with ``fit(defended, inputs)`` and ``reconstruct(defended)``
(see `base.Adversary`), one file each; `families` says which of them make up A2 and A3.
"""

from mipoison.eval.adversaries.base import Adversary, Network, features
from mipoison.eval.adversaries.decoder import Decoder
from mipoison.eval.adversaries.denoiser import Denoiser
from mipoison.eval.adversaries.families import AdversarySettings
from mipoison.eval.adversaries.knn import NearestNeighbours
from mipoison.eval.adversaries.label_only import LabelOnly
from mipoison.eval.adversaries.mlp import MLP

__all__ = [
    "MLP",
    "Adversary",
    "AdversarySettings",
    "Decoder",
    "Denoiser",
    "LabelOnly",
    "NearestNeighbours",
    "Network",
    "features",
]
