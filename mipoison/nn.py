"""Small networks on [p, log p]: training, and modules that keep them packed for `mipoison.ops`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.adamw import AdamW
from mipoison.dtype_stable import DtypeStable
from mipoison.neutral import neutral
from mipoison.ops import unchecked
from mipoison.progress import Report
from mipoison.reference.network import Layers, derived, features, slope, whole_lanes
from mipoison.standards import feature_standards

# Weights and biases of two hidden layers and the last one.
_LAYERS: Final = 3
# The largest rate of training.
RATE: Final = 2e-3


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
    """ReLU, with the derivative of `slope`."""
    active = F.relu(h)
    return derived(active, slope(active, smooth) * h) if smooth else active


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
        carried = torch.bmm(errors[-1], weight.transpose(1, 2))
        errors.append(
            carried * slope(active, smooth)
            if smooth
            else torch.ops.aten.threshold_backward(carried, active, 0)
        )
    return errors[::-1]


def train(
    state: list[Tensor],
    x: Tensor,
    goal: Tensor,
    *,
    epochs: int,
    batch: int,
    generator: torch.Generator,
    rate: float = RATE,
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
        rate: the largest one.
        progress: told after every epoch.

    Returns:
        the new state; the old one is left as it was.
    """
    state = [value.detach().clone() for value in state]
    members, n = len(state[0]), len(goal)
    rounds = -(-n // batch)
    # Where a member's rows begin among those of all members.
    first = torch.arange(members, device=x.device).unsqueeze(1) * (n if len(x) > 1 else 0)
    flat = x.flatten(0, 1)
    with torch.no_grad(), neutral(x.device):
        optimizer = AdamW(state, rate=rate, steps=epochs * rounds)
        for epoch in range(epochs):
            order = torch.stack(
                [torch.randperm(n, generator=generator, device="cpu") for _ in range(members)]
            )
            for rows in order.to(x.device).chunk(rounds, dim=1):
                hidden = evaluate(state, _taken(flat, first + rows))
                # The gradient of the mean squared error of the rows.
                off = hidden[-1][..., : goal.shape[1]] - _taken(goal, rows)
                error = off * (2 / rows.shape[1])
                optimizer.apply(_gradients(state, hidden, error))
            if progress is not None:
                progress((epoch + 1) / epochs)
    return state


def _taken(x: Tensor, rows: Tensor) -> Tensor:
    """x[rows] of a matrix [n, F] for a matrix of rows [M, B]: [M, B, F], in a third of the time."""
    return x.index_select(0, rows.flatten()).view(*rows.shape, x.shape[1])


def _gradients(state: list[Tensor], hidden: list[Tensor], error: Tensor) -> list[Tensor]:
    """Those of weights and biases, summed over the rows, from the error [M, B, C] of the first C outputs."""
    error = F.pad(error, (0, hidden[-1].shape[-1] - error.shape[-1]))
    gradients = []
    for below, carried in zip(hidden[:-1], backpropagate(state, hidden, error), strict=True):
        gradients += [torch.bmm(below.transpose(1, 2), carried), carried.sum(1, keepdim=True)]
    return gradients


def fit_networks(
    rows: Tensor,
    goal: Tensor,
    *,
    members: int = 1,
    width: int,
    epochs: int,
    batch: int,
    seed: int,
    rate: float = RATE,
    progress: Report | None = None,
) -> dict[str, Tensor]:
    """The tensors of an `Ensemble` trained on rows [n, K], float32, and what to predict for them, [n, C]."""
    x = features(rows)
    mean, scale = feature_standards(x, rows.shape[1])
    generator = torch.Generator().manual_seed(seed)
    state = initial(
        x.shape[1], width, goal.shape[1], members=members, generator=generator, device=x.device
    )
    x = ((x - mean) / scale).unsqueeze(0)
    state = train(
        state,
        x,
        goal,
        epochs=epochs,
        batch=batch,
        generator=generator,
        rate=rate,
        progress=progress,
    )
    tensors = {"mean": mean, "scale": scale}
    for i in range(len(state) // 2):
        tensors |= {f"weight{i}": state[2 * i], f"bias{i}": state[2 * i + 1]}
    return tensors


class Ensemble(DtypeStable):
    """M networks of one shape on standardised features, and the tensors beside them.

    Their weights change by `load_state_dict` only, which packs them anew.

    Args:
        tensors: the tensors of `state_dict`; `fit_networks` gives those of the networks.
    """

    mean: Tensor
    scale: Tensor
    packed: Tensor

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            # Not an inference tensor, even where one is fitted or loaded under inference_mode.
            with torch.inference_mode(False):
                self.register_buffer(name, value.detach().clone())
        layers = sum(name.startswith("weight") for name in tensors)
        if layers != _LAYERS:
            raise ValueError(f"expected networks of {_LAYERS} layers, got {layers}")
        self.register_buffer("packed", self._packed(), persistent=False)

    def _packed(self) -> Tensor:
        """The networks in the form of `unchecked.recover`."""
        with torch.inference_mode(False), torch.no_grad():
            return Layers.of(self.mean, self.scale, self.state()).packed()

    def _load_from_state_dict(self, state_dict: Mapping[str, Any], prefix: str, *rest: Any) -> None:
        super()._load_from_state_dict(state_dict, prefix, *rest)
        self.packed = self._packed()

    @property
    def layers(self) -> int:
        """Layers of weights."""
        return _LAYERS

    @property
    def members(self) -> int:
        """M."""
        return len(self.get_buffer("weight0"))

    @property
    def width(self) -> int:
        """Units of each hidden layer, in whole lanes."""
        return self.get_buffer("weight1").shape[1]

    @property
    def outputs(self) -> int:
        """Numbers that are predicted, in whole lanes."""
        return self.get_buffer("bias2").shape[-1]

    def state(self) -> list[Tensor]:
        """Weights [M, in, out] and biases [M, 1, out] in turn, layer by layer."""
        return [
            self.get_buffer(f"{kind}{i}") for i in range(_LAYERS) for kind in ("weight", "bias")
        ]

    def inside(self, outputs: Tensor, *, smooth: bool = False) -> Tensor:
        """Standardised features of the vectors, [..., K] → [..., F]; see `features`."""
        return (features(outputs, smooth=smooth) - self.mean) / self.scale

    def toward(self, weights: Tensor) -> list[Tensor]:
        """Each member by itself, packed, its gradient carried through other weights than those of its first layer.

        Args:
            weights: [M, F, H].
        """
        state = self.state()
        made = []
        for member, back in enumerate(weights.transpose(1, 2)):
            one = [value[member : member + 1] for value in state]
            layers = Layers.of(self.mean, self.scale, one)._replace(back0=back.unsqueeze(0))
            made.append(layers.packed())
        return made


class Network(Ensemble):
    """One network, or the mean of several."""

    @classmethod
    def fit(cls, rows: Tensor, goal: Tensor, **how: Any) -> Network:
        """Trains on rows [n, K] and what to predict for them, [n, C]; see `fit_networks`."""
        return cls(fit_networks(rows, goal, **how))

    def forward(self, rows: Tensor) -> Tensor:
        """Predicts for probability vectors [N, K], padded to whole lanes: [N, C], float32."""
        return unchecked.recover(rows, self)
