"""Small networks on [p, log p] whose answers do not depend on the batch: training, and evaluation in fixed tiles."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.adamw import AdamW
from mipoison.dtype_stable import DtypeStable
from mipoison.neutral import neutral
from mipoison.progress import Report

# The logarithms of smaller entries are those of this floor: below it, float32 confidences are noise.
LOG_FLOOR: Final = 1e-7
# Rows in a tile. A matrix product rounds differently at another batch size, so every tile has the same height.
TILE: Final = 64
# `Network`, which is smaller, runs faster in fewer and taller tiles.
_TILE: Final = 256
# Layer widths are multiples of this: a matrix product sums its narrow edges in another order, which would make a row's
# bits depend on its place in the tile.
_LANES: Final = 32
# Smooth derivatives, for steps that must not depend on a row's last bits. Exact ones jump: that of the logarithm from
# 1e7 to zero at the floor, so that a step follows whichever entry is smallest, and ReLU's where a unit is switched on;
# up to one row in twenty was answered otherwise in another batch. The first is an entry below which the logarithm's
# derivative falls to zero, the second an activity up to which ReLU's rises to one.
_SMOOTHING: Final = 1e-3
_RAMP: Final = 0.5
_RATE: Final = 2e-3


def features(outputs: Tensor, *, smooth: bool = False) -> Tensor:
    """[p, log p] with a floor, padded with zeros to whole lanes: [..., K] → [..., F].

    An adversary who takes logarithms recovers far more than one who does not, so a surrogate must see both.

    Args:
        outputs: confidence vectors.
        smooth: the derivative of log p is taken as that of ½ log(p² + s²), with a fixed s; the value is that of log p.
    """
    log = outputs.clamp_min(LOG_FLOOR).log()
    if smooth:
        log = _derived(log, 0.5 * (outputs.square() + _SMOOTHING**2).log())
    both = torch.cat((outputs, log), dim=-1)
    return F.pad(both, (0, -both.shape[-1] % _LANES))


def _derived(value: Tensor, other: Tensor) -> Tensor:
    """The value, with the derivative of the other."""
    return value.detach() + (other - other.detach())


def standardizer(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every column, the latter no less than 1e-6."""
    return x.mean(0), x.std(0).clamp_min(1e-6)


def whole_lanes(size: int) -> int:
    """The size rounded up to whole lanes."""
    return size + -size % _LANES


def in_tiles(*tensors: Tensor, height: int = TILE) -> list[tuple[Tensor, ...]]:
    """The tensors cut into tiles of equal height, the last one padded with zeros."""
    n = tensors[0].shape[0]
    padded = [F.pad(x, (0, 0, 0, -n % height)) for x in tensors]
    return list(zip(*(torch.split(x, height) for x in padded), strict=True))


def initial(
    inputs: int,
    width: int,
    outputs: int,
    *,
    members: int,
    generator: torch.Generator,
    device: torch.device,
) -> list[Tensor]:
    """Weights [M, in, out] and biases [M, 1, out] in turn of two hidden layers, uniform within ±1/√in.

    Args:
        inputs: features, whole lanes.
        width: units of each hidden layer; rounded up to whole lanes.
        outputs: what is predicted; rounded up likewise.
        members: M networks.
        generator: what the entries are drawn with.
        device: where they go.
    """
    sizes = (inputs, whole_lanes(width), whole_lanes(width), whole_lanes(outputs))
    state = []
    for fan_in, fan_out in pairwise(sizes):
        for rows in (fan_in, 1):
            draw = torch.rand(
                (members, rows, fan_out), generator=generator, dtype=torch.float32, device="cpu"
            )
            state.append(((2 * draw - 1) / math.sqrt(fan_in)).to(device))
    return state


def evaluate(state: list[Tensor], x: Tensor, *, smooth: bool = False) -> list[Tensor]:
    """Activations of every layer, ReLU between them, for x [M, B, F], which comes first.

    With `smooth`, ReLU's derivative is a ramp, as in `backpropagate`; its value is ReLU's.
    """
    hidden = [x]
    for i, (weight, bias) in enumerate(zip(state[::2], state[1::2], strict=True)):
        last = 2 * i + 2 == len(state)
        h = torch.baddbmm(bias, hidden[-1], weight)
        hidden.append(h if last else _activated(h, smooth))
    return hidden


def _activated(h: Tensor, smooth: bool) -> Tensor:
    """ReLU, with the derivative of `_slope`."""
    active = F.relu(h)
    return _derived(active, _slope(active, smooth) * h) if smooth else active


def _slope(active: Tensor, smooth: bool) -> Tensor:
    """ReLU's derivative at units of these activities, a constant; with `smooth`, it rises along a ramp from 0 to 1."""
    return (active.detach() / _RAMP).clamp_max(1) if smooth else active > 0


def backpropagate(
    state: list[Tensor], hidden: list[Tensor], error: Tensor, *, smooth: bool = False
) -> list[Tensor]:
    """The error [M, B, out] at every layer before its ReLU, first layer first.

    Args:
        state: weights and biases in turn.
        hidden: what `evaluate` gave.
        error: at the last layer.
        smooth: takes ReLU's derivative as a ramp that rises from 0 to 1 over the first activities.
    """
    errors = [error]
    for weight, active in zip(state[-2:0:-2], hidden[-2:0:-1], strict=True):
        errors.append(torch.bmm(errors[-1], weight.transpose(1, 2)) * _slope(active, smooth))
    return errors[::-1]


def train(
    state: list[Tensor],
    x: Tensor,
    goal: Tensor,
    *,
    epochs: int,
    batch: int,
    generator: torch.Generator,
    progress: Report | None = None,
) -> list[Tensor]:
    """Continues training on the squared error, AdamW with a one-cycle rate.

    Args:
        state: what `initial` or `train` gave.
        x: [M, n, F], or [1, n, F] for all members.
        goal: [n, C], C no more than the last layer.
        epochs: passes over the rows.
        batch: rows a step.
        generator: draws each member's order of the rows.
        progress: told after every epoch.

    Returns:
        the new state; the old one is left as it was.
    """
    state = [value.detach().clone().requires_grad_() for value in state]
    members, n = len(state[0]), len(goal)
    rounds = -(-n // batch)
    member = torch.arange(members, device=x.device).unsqueeze(1)
    x = x.expand(members, -1, -1)
    with torch.enable_grad(), neutral(x.device):
        optimizer = AdamW(state, rate=_RATE, steps=epochs * rounds)
        for epoch in range(epochs):
            order = torch.stack(
                [torch.randperm(n, generator=generator, device="cpu") for _ in range(members)]
            )
            for rows in order.to(x.device).chunk(rounds, dim=1):
                predicted = evaluate(state, x[member, rows])[-1][..., : goal.shape[1]]
                loss = (predicted - goal[rows]).square().sum(-1).mean(-1).sum()
                optimizer.step(loss)
            if progress is not None:
                progress((epoch + 1) / epochs)
    return [value.detach() for value in state]


def fit_networks(
    rows: Tensor,
    goal: Tensor,
    *,
    members: int = 1,
    width: int,
    epochs: int,
    batch: int,
    seed: int,
    progress: Report | None = None,
) -> dict[str, Tensor]:
    """The tensors of an `Ensemble` trained on rows [n, K], float32, and what to predict for them, [n, C]."""
    x = features(rows)
    mean, scale = standardizer(x)
    generator = torch.Generator().manual_seed(seed)
    state = initial(
        x.shape[1], width, goal.shape[1], members=members, generator=generator, device=x.device
    )
    x = ((x - mean) / scale).unsqueeze(0)
    state = train(
        state, x, goal, epochs=epochs, batch=batch, generator=generator, progress=progress
    )
    tensors = {"mean": mean, "scale": scale}
    for i in range(len(state) // 2):
        tensors |= {f"weight{i}": state[2 * i], f"bias{i}": state[2 * i + 1]}
    return tensors


class Ensemble(DtypeStable):
    """M networks of one shape on standardised features, and the tensors beside them.

    Args:
        tensors: the tensors of `state_dict`; `fit_networks` gives those of the networks.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            # Not an inference tensor, even where one is fitted or loaded under inference_mode.
            with torch.inference_mode(False):
                self.register_buffer(name, value.detach().clone())
        self.layers = sum(name.startswith("weight") for name in tensors)
        # Raises here, and not at the first answer, where a file lacks one of them.
        _ = self.mean, self.scale, self.state()

    @property
    def members(self) -> int:
        """M."""
        return len(self.get_buffer("weight0"))

    def state(self) -> list[Tensor]:
        """Weights [M, in, out] and biases [M, 1, out] in turn, layer by layer."""
        return [
            self.get_buffer(f"{kind}{i}") for i in range(self.layers) for kind in ("weight", "bias")
        ]

    def inside(self, outputs: Tensor, *, smooth: bool = False) -> Tensor:
        """Standardised features of the vectors, [..., K] → [..., F]; see `features`."""
        return (features(outputs, smooth=smooth) - self.mean) / self.scale

    def pulled(
        self, rows: Tensor, hidden: list[Tensor], error: Tensor, *, smooth: bool = False
    ) -> Tensor:
        """The error [M, B, out] of the last layer, carried back to the rows by the chain rule: [B, K], without a graph.

        Args:
            rows: vectors, [B, K].
            hidden: what `evaluate` gave for them.
            error: at the last layer.
            smooth: takes smooth derivatives of ReLU and the logarithm; see `backpropagate` and `features`.
        """
        state, k = self.state(), rows.shape[1]
        first = backpropagate(state, hidden, error, smooth=smooth)[0]
        g = torch.bmm(first, state[0].transpose(1, 2)).sum(0) / self.scale
        if smooth:
            inverse = rows / (rows.square() + _SMOOTHING**2)
        else:
            # Below their floor the logarithms are constant.
            inverse = torch.where(rows > LOG_FLOOR, 1 / rows.clamp_min(LOG_FLOOR), 0.0)
        return g[:, :k] + g[:, k : 2 * k] * inverse


class Network(Ensemble):
    """One network, served in tiles of fixed height."""

    @classmethod
    def fit(cls, rows: Tensor, goal: Tensor, **how: Any) -> Network:
        """Trains on rows [n, K] and what to predict for them, [n, C]; see `fit_networks`."""
        return cls(fit_networks(rows, goal, **how))

    def forward(self, rows: Tensor) -> Tensor:
        """Predicts for rows [N, K], padded to whole lanes: [N, C], float32."""
        state = self.state()
        with neutral(rows.device):
            tiles = [
                evaluate(state, tile.unsqueeze(0))[-1][0]
                for (tile,) in in_tiles(self.inside(rows), height=_TILE)
            ]
        return torch.cat(tiles)[: len(rows)]

    def gradient(self, rows: Tensor, goal: Tensor) -> Tensor:
        """∇ ½‖G(q) − goal‖² at q = rows, [N, K], float32; by the chain rule, without a graph."""
        state = self.state()
        with neutral(rows.device):
            gradients = []
            for tile, wanted in in_tiles(rows, goal, height=_TILE):
                hidden = evaluate(state, self.inside(tile).unsqueeze(0))
                gradients.append(self.pulled(tile, hidden, hidden[-1] - wanted))
        return torch.cat(gradients)[: len(rows)]
