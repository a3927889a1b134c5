"""State how hard the adversaries try."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from mipoison.eval.metrics import LOSSES
from mipoison.eval.scalars import real, several, whole

WIDE = "wide MLP, raw+log"
_COUNTS = (
    *("width", "epochs", "batch", "wide_width", "wide_epochs", "wide_batch"),
    *("patience", "held_out", "decoder_channels", "decoder_epochs"),
)


@dataclass(frozen=True)
class AdversarySettings:
    """How hard the adversaries try.

    Attributes:
        width: hidden units of the standard network.
        epochs: passes of the standard network, at most; it ends earlier, see `patience`.
        wide_width: hidden units of the adaptive networks.
        wide_epochs: passes of the adaptive networks, at most.
        batch: rows a step of the standard network.
        wide_batch: rows a step of the adaptive networks.
        patience: passes in a row without a smaller error on the rows kept back, after which a network has converged.
            The weights of its best pass are taken.
        learning_rate: of AdamW, constant; what is used are running averages of the weights.
        log_floor: smallest entry before a logarithm.
        deep_floor: that of one more wide network on raw+log, since a confident classifier's small entries tell what a
            softened one's large entries do; None: no such network.
        neighbours: k of the nearest-neighbour variants, each on raw and on log features.
        recovery_draws: simulated answers a row for the adversary who recovers undefended vectors, see
            `attack_recovered`; 0: no such adversary.
        held_out: auxiliary rows that the adversary keeps back, to choose among its variants
            and to watch its learning.
        losses: further losses, "l1" or "mse+ssim", each of which trains another wide network on raw+log.
            The similarity of larger images takes many times as long as the rest.
        decoders: kinds of `Decoder`, e.g. ("raw", "raw+log", "top-10"), each another variant of
            the adaptive adversary; none by default, since they cost the most: for images of 32×32 a core takes .4 ms a
            row and pass, and some 30 passes, so 60 s for each system with 5,000 rows. On a GPU where torch has one.
        decoder_channels: their maps of 4x4.
        decoder_epochs: their passes, at most; the fewer the rows, the more are needed.

    Raises:
        ValueError: if a number is out of its range, or a loss or a kind of decoder is unknown.
    """

    width: int = 256
    epochs: int = 200
    wide_width: int = 384
    wide_epochs: int = 100
    batch: int = 48
    wide_batch: int = 64
    patience: int = 12
    learning_rate: float = 3e-3
    log_floor: float = 1e-6
    deep_floor: float | None = 1e-30
    neighbours: tuple[int, ...] = (10, 25, 60)
    recovery_draws: int = 2
    held_out: int = 175
    losses: tuple[str, ...] = ()
    decoders: tuple[str, ...] = ()
    decoder_channels: int = 64
    decoder_epochs: int = 100

    def __post_init__(self) -> None:
        taken: dict[str, object] = {
            name: whole(name, getattr(self, name), least=1) for name in _COUNTS
        }
        taken["recovery_draws"] = whole("recovery_draws", self.recovery_draws, least=0)
        taken["neighbours"] = tuple(
            whole("neighbours", k) for k in several("neighbours", self.neighbours)
        )
        for name in ("losses", "decoders"):
            taken[name] = several(name, getattr(self, name))
        for name in ("learning_rate", "log_floor"):
            taken[name] = real(name, getattr(self, name))
        if self.deep_floor is not None:
            taken["deep_floor"] = real("deep_floor", self.deep_floor)
        for name, value in taken.items():
            object.__setattr__(self, name, value)
        if not self.neighbours or min(self.neighbours) < 1:
            raise ValueError(f"neighbours: expected numbers >= 1, got {self.neighbours}")
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate: expected a number > 0, got {self.learning_rate}")
        for name, floor in (("log_floor", self.log_floor), ("deep_floor", self.deep_floor)):
            if floor is not None and not 0 < floor < 1:
                raise ValueError(f"{name}: expected a number between 0 and 1, got {floor}")
        for loss in self.losses:
            if loss == "mse" or loss not in LOSSES:
                raise ValueError(
                    f"losses: expected further ones than 'mse' out of {LOSSES}, got {loss!r}"
                )
        for kind in self.decoders:
            if not re.fullmatch(r"raw|log|raw\+log|top-[1-9]\d*", kind):
                raise ValueError(
                    f"decoders: expected 'raw', 'log', 'raw+log' or 'top-M', got {kind!r}"
                )

    @property
    def readers(self) -> dict[str, float]:
        """The wide networks on raw+log by name, and how small the entries are that each looks at."""
        floors = {WIDE: self.log_floor}
        if self.deep_floor is not None:
            floors[f"{WIDE} to {self.deep_floor:g}"] = self.deep_floor
        return floors

    def check_rows(self, auxiliary: int) -> None:
        """Raises unless the adversary has rows enough to learn from and to keep back.

        Raises:
            ValueError: if fewer are left to learn from than neighbours are looked up.
        """
        fitted = auxiliary - self.held_out
        if fitted < max(self.neighbours):
            raise ValueError(
                f"expected auxiliary rows enough to keep {self.held_out} back (held_out) and to look up "
                f"{max(self.neighbours)} others (neighbours), got {auxiliary}; give more images, or take fewer with "
                "--adversary.held-out and --adversary.neighbours"
            )
