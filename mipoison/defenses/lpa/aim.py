"""What a fit aims at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Aim:
    """What a fit aims at; see `LPA.fit`.

    Attributes:
        epsilon: radius of each row's ball.
        norm: its norm.
        margin: least lead of a label.
        budget: mean l1, or None where the objective has none, or another aim.
        certified: gain to be certified, or None.
        error: of the adversaries, "root" or "squared".
        seed: of everything that is trained.
    """

    epsilon: float
    norm: str
    margin: float
    budget: float | None
    certified: float | None
    error: str
    seed: int
