"""Every defense of the package, fitted on the same small data."""

from __future__ import annotations

import io
from collections.abc import Callable

import torch
from distributions import draw
from torch import Tensor

import mipoison as mp
from mipoison.defenses import (
    Contract,
    Defense,
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
from mipoison.defenses.lpa import OBJECTIVES

# By whether they have a key.
KEYLESS = (
    *("label-only", "rounding", "top-k", "flatter", "sharper", "reverse-sigmoid"),
    *("high-confidence", "contract", "codebook", "codebook without a cap"),
    *("cutoff", "cutoff without a cap", "modelguard-w", "modelguard-s"),
)
KEYED = (
    *("decoy", "ascent", "direction", "equilibrium", "generator", "alignment", "alignment-full"),
    *("lfp", "lfp-margin", "laplace", "gaussian", "one-parameter", "purifier", "swap"),
)


def stored(defense: Defense) -> io.BytesIO:
    """The defense in a file that can be read at once."""
    file = io.BytesIO()
    defense.save(file)
    file.seek(0)
    return file


def key_of(objective: str, key: int = 1) -> dict[str, int]:
    """The key as an option, if the objective takes one."""
    return {"key": key} if OBJECTIVES[objective].keyed else {}


def fit_all() -> dict[str, Callable[[Tensor], Tensor]]:
    """By name; the same ones in every process."""
    outputs = draw("plain", 200, 10).float()
    inputs = torch.rand(200, 6, 6, generator=torch.Generator().manual_seed(0))
    return {
        "decoy": mp.LPA.fit(outputs, inputs, objective="decoy", epsilon=0.2, key=1),
        "ascent": mp.LPA.fit(outputs, inputs, objective="ascent", epsilon=0.2, key=1),
        "direction": mp.LPA.fit(outputs, inputs, objective="direction", epsilon=0.2, key=1),
        "equilibrium": mp.LPA.fit(
            outputs, inputs, objective="equilibrium", budget=0.05, epsilon=0.2, key=1
        ),
        "generator": mp.LPA.fit(
            outputs, inputs, objective="generator", budget=0.05, epsilon=0.2, key=1
        ),
        "alignment": mp.LPA.fit(outputs, inputs, objective="alignment", epsilon=0.2, key=1),
        "alignment-full": mp.LPA.fit(outputs, inputs, objective="alignment-full", key=1),
        "codebook": mp.LPA.fit(outputs, inputs, objective="codebook", epsilon=0.2),
        "codebook without a cap": mp.LPA.fit(outputs, inputs, objective="codebook"),
        "cutoff": mp.LPA.fit(outputs, inputs, objective="cutoff", epsilon=0.2),
        "cutoff without a cap": mp.LPA.fit(outputs, inputs, objective="cutoff", budget=0.3),
        "lfp": mp.LFP.fit(outputs, inputs, rate=0.3, rows="random", key=1),
        "lfp-margin": mp.LFP.fit(outputs, inputs, rate=0.3, targets="runner_up", key=1),
        "label-only": LabelOnly(),
        "rounding": Rounding(1),
        "laplace": LaplaceNoise(scale=0.05, key=1),
        "gaussian": GaussianNoise(scale=0.05, key=1),
        "top-k": TopK(3),
        "flatter": Temperature(temperature=3.0),
        "sharper": Temperature(temperature=0.3),
        "reverse-sigmoid": ReverseSigmoid(),
        "high-confidence": HighConfidence(cutoff=0.1),
        "one-parameter": OneParameter(privacy_budget=50.0, key=1),
        "purifier": Purifier.fit(outputs, epochs=5, key=1),
        "swap": Swap.fit(outputs, epsilon=0.2, key=1),
        "contract": Contract.fit(outputs, epsilon=0.2),
        "modelguard-w": ModelGuardW(epsilon=0.2),
        "modelguard-s": ModelGuardS.fit(outputs, epsilon=0.2),
    }
