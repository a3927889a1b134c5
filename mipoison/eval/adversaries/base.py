"""State what every inversion adversary offers, and what trained ones share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypedDict, TypeVar

import torch
from torch import Tensor

from mipoison.ops.numbers import as_count, as_seed

Self = TypeVar("Self", bound="Adversary")
Trained = TypeVar("Trained", bound="Network")


class Adversary(Protocol):
    """An inversion adversary: learns to map served vectors back to inputs.

    The served vectors are ``[n, K]``, or ``[E, n, K]`` for E systems attacked side by side
    (the same inputs behind E different defenses); the answers then carry the same leading E.

    Attributes:
        name: how reports call the adversary.
    """

    name: str

    def fit(self: Self, defended: Tensor, inputs: Tensor) -> Self:
        """Learns from the adversary's own queries ``[(E,) n, K]`` and their inputs ``[n, D]``."""
        ...

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels ``[(E,) m, D]`` in [0, 1] for served vectors ``[(E,) m, K]``."""
        ...


class LearningCurves(TypedDict):
    """Mean squared pixel error after each epoch, one list of E values an epoch; NaN once a system's training ended."""

    train: list[list[float]]
    held_out: list[list[float]]


class Network(Adversary, Protocol):
    """An adversary that is trained for some epochs, and can be watched.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
        on_epoch: called after every epoch.
    """

    curves: LearningCurves
    on_epoch: Callable[[], None] | None

    def fit(
        self: Trained,
        defended: Tensor,
        inputs: Tensor,
        held_out: tuple[Tensor, Tensor] | None = None,
    ) -> Trained:
        """Learns as any adversary does; ``held_out`` decides how long."""
        ...

    def member(self: Trained, index: int) -> Trained:
        """Returns the network that attacks one of the E systems, as an adversary of its own."""
        ...

    def again(self: Trained, defended: Tensor, inputs: Tensor, systems: Sequence[int]) -> Trained:
        """Trains anew on all rows ``[S, n, K]`` of some systems, as long as was best for each."""
        ...


def features(defended: Tensor, kind: str, *, log_floor: float = 1e-6) -> Tensor:
    """Builds what an adversary reads from a served vector.

    Args:
        defended: ``[..., K]``.
        kind: "raw" (the vector), "log" (its logarithm) or "raw+log" (both, side by side).
        log_floor: entries are raised to this before the logarithm, so that it is finite.

    Returns:
        ``[..., K]``, or ``[..., 2K]`` for "raw+log".

    Raises:
        ValueError: if the kind is unknown.

    Example:
        >>> features(torch.tensor([[1.0, 0.0]]), "raw+log", log_floor=1e-2)
        tensor([[ 1.0000,  0.0000,  0.0000, -4.6052]])
    """
    if kind == "raw":
        return defended
    logs = defended.clamp_min(log_floor).log()
    if kind == "log":
        return logs
    if kind == "raw+log":
        return torch.cat([defended, logs], dim=-1)
    raise ValueError(f"features: expected 'raw', 'log' or 'raw+log', got {kind!r}")


def training_device() -> torch.device:
    """The first GPU that torch can use, or else the CPU. Each cell of results.json says which it was."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_name() -> str:
    """Names it for the record, "cpu" or the GPU's own name."""
    device = training_device()
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def repeatable() -> AbstractContextManager[None]:
    """Convolutions that repeat themselves, in float32 throughout; without effect on the CPU, where they do anyway."""
    context: AbstractContextManager[None] = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    return context


def stacked(vectors: Tensor) -> Tensor:
    """Vectors of E systems, ``[E, m, K]``, of one or several: ``[(E,) m, K]``."""
    return vectors if vectors.dim() == 3 else vectors.unsqueeze(0)


class TrainedAdversary(ABC):
    """An adversary that is trained for some epochs, and can be watched.

    Args:
        name: how reports call it.
        kind: which features it reads.
        epochs: passes over the auxiliary rows, at most.
        batch: rows a step.
        learning_rate: of its optimizer.
        log_floor: smallest entry before the logarithm.
        seed: initial weights and order of the batches.
        on_epoch: called after every epoch.

    Attributes:
        curves: error on the training rows and on held-out rows after each epoch.
    """

    def __init__(
        self,
        *,
        name: str,
        kind: str,
        epochs: int,
        batch: int,
        learning_rate: float,
        log_floor: float,
        seed: int,
        on_epoch: Callable[[], None] | None,
    ) -> None:
        self.name = name
        self.kind = kind
        self.epochs = as_count("epochs", epochs, 1)
        self.batch = as_count("batch", batch, 1)
        self.learning_rate = learning_rate
        self.log_floor = log_floor
        self.seed = as_seed(seed)
        self.on_epoch = on_epoch
        self.curves: LearningCurves = {"train": [], "held_out": []}

    @abstractmethod
    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns pixels in [0, 1], ``[(E,) m, D]``, for served vectors ``[(E,) m, K]``."""

    def _epoch_ended(
        self, errors: Tensor, watched: Tensor | None, active: Tensor, systems: int
    ) -> None:
        """Adds to the curves: errors on training rows and on held-out ones, of the systems that are still trained."""
        self.curves["train"].append(_of_all(errors, active, systems))
        if watched is not None:
            self.curves["held_out"].append(_of_all(watched, active, systems))
        if self.on_epoch is not None:
            self.on_epoch()

    def _ended(self, made: int) -> None:
        """Counts the passes that were not needed as done."""
        if self.on_epoch is not None:
            for _ in range(made, self.epochs):
                self.on_epoch()


def _finite(error: Tensor) -> float:
    """The error, infinite where it is no number: of a network that diverged."""
    return float(error.nan_to_num(torch.inf))


def _of_all(errors: Tensor, active: Tensor, systems: int) -> list[float]:
    """Errors of the active systems, NaN for the others."""
    everyone = torch.full((systems,), torch.nan)
    everyone[active.cpu()] = errors.float().cpu()
    values: list[float] = everyone.tolist()
    return values


STANDARD = "MLP, raw"
# The variant that was the best on held-out rows, trained again on those, too.
ON_ALL_ROWS = ", on all rows"
REFIT = f"the chosen one{ON_ALL_ROWS}"


@dataclass(frozen=True)
class Attack:
    """What all variants of the adversary achieved on E systems.

    Attributes:
        reconstructions: variant to ``[E, M, D]``, the victims as that variant sees them.
        errors: variant to ``[E, M]``, the victims' mean squared pixel errors.
        held_out: variant to ``[E]``, the error on the rows that the adversary kept back.
        networks: the trained ones among the variants.
        refit: of each system, the variant that was chosen by its held-out error, and that the variant `REFIT` is with
            all auxiliary rows; empty where nothing was trained again.
    """

    reconstructions: dict[str, Tensor]
    errors: dict[str, Tensor]
    held_out: dict[str, Tensor]
    networks: dict[str, Network]
    refit: tuple[str, ...] = ()

    def beside(self, other: Attack) -> Attack:
        """The variants of both."""
        return Attack(
            reconstructions=self.reconstructions | other.reconstructions,
            errors=self.errors | other.errors,
            held_out=self.held_out | other.held_out,
            networks=self.networks | other.networks,
            refit=self.refit or other.refit,
        )

    @property
    def curves(self) -> dict[str, LearningCurves]:
        """Learning curves of the trained variants."""
        return {name: network.curves for name, network in self.networks.items()}

    def strongest(self, system: int) -> str:
        """Names the variant with the smallest mean error on the victims."""
        return min(self.errors, key=lambda name: _finite(self.errors[name][system].mean()))

    def best_held_out(self, system: int) -> str:
        """Names the variant with the smallest error on the rows that the adversary kept back."""
        return min(self.held_out, key=lambda name: _finite(self.held_out[name][system]))

    def chosen(self, system: int) -> str:
        """Names the variant that the adversary would use, knowing its held-out rows alone."""
        return REFIT if self.refit else self.best_held_out(system)

    def described(self, variant: str, system: int) -> str:
        """How reports call a variant: of the refit one, what it is for this system."""
        return f"{self.refit[system]}{ON_ALL_ROWS}" if variant == REFIT else variant
