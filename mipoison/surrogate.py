"""The surrogate: inversion models that the defender trains, standing in for the adversary's."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.ops.validation import as_count, as_rows, require_finite, require_probabilities
from mipoison.steady import Steady

# Log features end here: below, float32 confidences are noise.
LOG_FLOOR: Final = 1e-7
# Networks see this many rows at a time, always: a matrix product changes bits with its batch size.
TILE: Final = 64
# And every layer is this much or a multiple: narrow edges of a matrix product are summed in another order than its
# middle, which would let a row's bits depend on its place in the tile.
_LANES: Final = 32
_BATCH: Final = 128
_LEARNING_RATE: Final = 2e-3


def features(outputs: Tensor) -> Tensor:
    """[p, log p] with a floor, padded with zeros to whole lanes: [..., K] → [..., F].

    An adversary who takes logarithms recovers far more than one who does not, so the surrogate must see both.
    """
    both = torch.cat((outputs, outputs.clamp_min(LOG_FLOOR).log()), dim=-1)
    return F.pad(both, (0, -both.shape[-1] % _LANES))


def in_tiles(*tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """The tensors cut into tiles of equal height, the last one padded with zeros."""
    n = tensors[0].shape[0]
    padded = [F.pad(x, (0, 0, 0, -n % TILE)) for x in tensors]
    return list(zip(*(torch.split(x, TILE) for x in padded), strict=True))


def full_precision(x: Tensor) -> torch.autocast:
    """No autocast here: an answer is a function of key and row, not of what the caller computes under."""
    return torch.autocast(x.device.type, enabled=False)


def _network(x: Tensor, weights: list[Tensor], biases: list[Tensor]) -> Tensor:
    """All members at once: x [B, F] or [M, B, F] → coefficients [M, B, C]."""
    h = x.expand(weights[0].shape[0], *x.shape[-2:])
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        h = torch.baddbmm(bias, h, weight)
        if i + 1 < len(weights):
            h = F.relu(h)
    return h


def _principal_components(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Mean [D] and an orthonormal basis [C, D] of the leading min(most, D, n − 1) components."""
    offset = x.mean(0)
    *_, basis = torch.linalg.svd(x - offset, full_matrices=False)
    return offset, basis[: max(1, min(most, x.shape[1], x.shape[0] - 1))].contiguous()


class Surrogate(Steady):
    """An ensemble of small inversion models: [p, log p] → principal components of the inputs.

    The pixel MSE of a reconstruction is the MSE of its coefficients plus a constant, so training on
    coefficients takes seconds on a CPU. Make one with `Surrogate.fit`.

    Args:
        state: the tensors of `state_dict`.
        input_shape: shape of one input, without the batch.
    """

    mean: Tensor
    scale: Tensor
    offset: Tensor
    basis: Tensor
    k: Tensor

    def __init__(self, state: dict[str, Tensor], input_shape: tuple[int, ...]) -> None:
        super().__init__()
        for name, value in state.items():
            # Not an inference tensor, even where one is fitted or loaded under inference_mode.
            with torch.inference_mode(False):
                self.register_buffer(name, value.detach().clone())
        self.layers = sum(name.startswith("weight") for name in state)
        self.input_shape = tuple(input_shape)

    @property
    def classes(self) -> int:
        """K, the length of the vectors it was fitted on."""
        return int(self.k)

    @classmethod
    def fit(
        cls,
        outputs: Any,
        inputs: Any,
        *,
        members: int = 3,
        width: int = 256,
        epochs: int = 30,
        components: int = 80,
        seed: int = 0,
    ) -> Surrogate:
        """Trains the ensemble on the defender's own, non-private, pairs.

        Args:
            outputs: undefended confidence vectors, [N, K]; tensor or ndarray.
            inputs: what produced them, [N, ...] of any shape; tensor or ndarray.
            members: networks in the ensemble, ≥ 1.
            width: units of each of the two hidden layers, ≥ 1; rounded up to a multiple of 32.
            epochs: passes over the data, ≥ 1.
            components: most principal components to predict, ≥ 1.
            seed: of initialisation and batches. Training is not keyed: the surrogate is no secret.

        Returns:
            the fitted surrogate, on the outputs' device, in float32.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for rows that are no probability vectors, too few rows, or counts that do
                not match.

        Example:
            >>> p = torch.softmax(torch.randn(64, 5), 1)
            >>> Surrogate.fit(p, torch.rand(64, 8, 8), epochs=1)(p).shape
            torch.Size([64, 63])
        """
        rows = as_rows("outputs", outputs).detach()
        require_probabilities("outputs", rows)
        x = torch.as_tensor(inputs, dtype=torch.float32, device=rows.device).detach()
        if len(x) != len(rows) or len(rows) < 2:
            raise ValueError(
                f"expected as many inputs as outputs and at least 2, got {len(x)} and {len(rows)}"
            )
        for name, value in {
            "members": members,
            "width": width,
            "epochs": epochs,
            "components": components,
        }.items():
            as_count(name, value, 1)
        require_finite("inputs", x.reshape(len(x), -1))
        # Clones made out here are ordinary tensors, which training needs, even under inference_mode.
        with torch.inference_mode(False):
            pairs = rows.to(torch.float32).clone(), x.clone()
            return cls(
                _fitted(*pairs, members, width, epochs, components, seed), tuple(x.shape[1:])
            )

    def _tile(self, outputs: Tensor) -> Tensor:
        """Mean prediction for one tile, [TILE, C]."""
        weights, biases = self.parameters_of("weight"), self.parameters_of("bias")
        return _network(self.inside(outputs), weights, biases).mean(0)[:, : self.basis.shape[0]]

    def forward(self, outputs: Tensor) -> Tensor:
        """Coefficients predicted for confidence vectors: [N, K] → [N, C], float32."""
        rows = outputs.to(torch.float32)
        if len(rows) == 0:
            return rows.new_empty((0, self.basis.shape[0]))
        with full_precision(rows):
            tiles = [self._tile(*tile) for tile in in_tiles(rows)]
        return torch.cat(tiles)[: len(rows)]

    def reconstruct(self, outputs: Tensor) -> Tensor:
        """Inputs predicted for confidence vectors: [N, K] → [N, ...], float32."""
        flat = self.forward(outputs) @ self.basis + self.offset
        return flat.reshape(-1, *self.input_shape)

    def gradient(self, outputs: Tensor, goal: Tensor) -> Tensor:
        """∇_q ½‖G(q) − goal‖² at q = outputs; works under `inference_mode`.

        Args:
            outputs: q, [N, K].
            goal: coefficients, [N, C].

        Returns:
            [N, K], float32.
        """
        return self.gradient_of(
            lambda q, wanted: 0.5 * (self._tile(q) - wanted).square(), outputs, goal
        )

    def gradient_of(self, score: Callable[..., Tensor], outputs: Tensor, *others: Tensor) -> Tensor:
        """∇_q of a score of the rows at q = outputs, tile by tile; works under `inference_mode`.

        Args:
            score: (q, *others), a tile of each, to a tensor whose sum is taken; what it says of one
                row may not depend on another.
            outputs: q, [N, K].
            others: what else the score takes of each row, [N, ...] each.

        Returns:
            [N, K], float32.
        """
        rows = outputs.to(torch.float32)
        if len(rows) == 0:
            return rows
        gradients = []
        with torch.inference_mode(False), torch.enable_grad(), full_precision(rows):
            for tile, *given in in_tiles(rows, *others):
                q = tile.clone().requires_grad_()
                total = score(q, *(x.clone() for x in given)).sum()
                gradients.append(torch.autograd.grad(total, q)[0])
        return torch.cat(gradients)[: len(rows)]

    def inside(self, outputs: Tensor) -> Tensor:
        """What the networks see of the vectors: standardised features, [..., K] → [..., F]."""
        return (features(outputs) - self.mean) / self.scale

    def parameters_of(self, kind: str) -> list[Tensor]:
        """Layer by layer, "weight" [M, in, out] or "bias" [M, 1, out] of all M members."""
        return [self.get_buffer(f"{kind}{i}") for i in range(self.layers)]

    def extra_repr(self) -> str:
        """K, members and the size of what is predicted."""
        members, width = self.get_buffer("weight1").shape[:2]
        return (
            f"classes={self.classes}, members={members}, width={width}, "
            f"components={self.basis.shape[0]}, input_shape={self.input_shape}"
        )


def whole_lanes(size: int) -> int:
    """The size rounded up to whole lanes."""
    return size + -size % _LANES


def _fitted(
    rows: Tensor,
    x: Tensor,
    members: int,
    width: int,
    epochs: int,
    components: int,
    seed: int,
) -> dict[str, Tensor]:
    """The tensors of a surrogate trained on rows [N, K] and inputs [N, ...]."""
    flat = x.reshape(len(x), -1)
    offset, basis = _principal_components(flat, components)
    inside = features(rows)
    mean, scale = inside.mean(0), inside.std(0).clamp_min(1e-6)
    generator = torch.Generator().manual_seed(seed)
    hidden = whole_lanes(width)
    sizes = [inside.shape[1], hidden, hidden, whole_lanes(len(basis))]
    state = _initial(members, sizes, generator, rows.device)
    _train(state, (inside - mean) / scale, (flat - offset) @ basis.T, epochs, generator)
    return state | {
        "mean": mean,
        "scale": scale,
        "offset": offset,
        "basis": basis,
        "k": torch.tensor(rows.shape[1]),
    }


def _initial(
    members: int, sizes: list[int], generator: torch.Generator, device: torch.device
) -> dict[str, Tensor]:
    """Weights [M, in, out] and biases [M, 1, out], uniform within ±1/√in."""
    state = {}
    for i, (inside, outside) in enumerate(pairwise(sizes)):
        bound = 1 / math.sqrt(inside)
        for name, shape in (("weight", (inside, outside)), ("bias", (1, outside))):
            draw = torch.rand((members, *shape), generator=generator, dtype=torch.float32)
            state[f"{name}{i}"] = ((2 * draw - 1) * bound).to(device)
    return state


def _train(
    state: dict[str, Tensor], x: Tensor, goal: Tensor, epochs: int, generator: torch.Generator
) -> None:
    """AdamW with a one-cycle rate on the squared error; each member sees its own order of the data."""
    layers = len(state) // 2
    weights, biases = (
        [state[f"{name}{i}"].requires_grad_() for i in range(layers)] for name in ("weight", "bias")
    )
    members, n = weights[0].shape[0], len(x)
    rounds = -(-n // _BATCH)
    with torch.enable_grad(), full_precision(x):
        optimizer = torch.optim.AdamW([*weights, *biases], lr=_LEARNING_RATE)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _LEARNING_RATE, total_steps=epochs * rounds
        )
        for _ in range(epochs):
            order = torch.stack([torch.randperm(n, generator=generator) for _ in range(members)])
            for batch in order.to(x.device).chunk(rounds, dim=1):
                predicted = _network(x[batch], weights, biases)[..., : goal.shape[1]]
                error = predicted - goal[batch]
                loss = error.square().sum(-1).mean(-1).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
    for value in state.values():
        value.requires_grad_(False)
