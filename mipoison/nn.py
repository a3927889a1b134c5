"""Small inversion networks whose answers do not depend on the batch: what they see, training, fixed tiles."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Final

import torch
from torch import Tensor
from torch.nn import functional as F

from mipoison.dtype_stable import DtypeStable
from mipoison.neutral import neutral
from mipoison.progress import Report

# Log features end here: below, float32 confidences are noise.
LOG_FLOOR: Final = 1e-7
# Networks see this many rows at a time, always: a matrix product changes bits with its batch size.
TILE: Final = 64
# A small network makes up for its size with fewer tiles.
_TILE: Final = 256
# And every layer is this much or a multiple: narrow edges of a matrix product are summed in another order than its
# middle, which would let a row's bits depend on its place in the tile.
_LANES: Final = 32
_RATE: Final = 2e-3


def features(outputs: Tensor, *, reach: float = 0.0) -> Tensor:
    """[p, log p] with a floor, padded with zeros to whole lanes: [..., K] → [..., F].

    An adversary who takes logarithms recovers far more than one who does not, so a surrogate must see both.

    Args:
        outputs: confidence vectors.
        reach: how far a step along the derivative will move an entry, if more than nothing. The derivative of a
            logarithm is then that of log(p + reach): the exact one, up to 1e7 and zero below the floor, makes a step
            follow whichever entry is smallest, and the row's last bits decide which that is.
    """
    log = outputs.clamp_min(LOG_FLOOR).log()
    if reach > 0:
        slow = (outputs + reach).log()
        log = log.detach() + (slow - slow.detach())
    both = torch.cat((outputs, log), dim=-1)
    return F.pad(both, (0, -both.shape[-1] % _LANES))


def whole_lanes(size: int) -> int:
    """The size rounded up to whole lanes."""
    return size + -size % _LANES


def in_tiles(*tensors: Tensor, height: int = TILE) -> list[tuple[Tensor, ...]]:
    """The tensors cut into tiles of equal height, the last one padded with zeros."""
    n = tensors[0].shape[0]
    padded = [F.pad(x, (0, 0, 0, -n % height)) for x in tensors]
    return list(zip(*(torch.split(x, height) for x in padded), strict=True))


def evaluate(state: list[Tensor], x: Tensor) -> list[Tensor]:
    """Activations of every layer, ReLU between them, for x [M, B, F]; weights [M, in, out], biases [M, 1, out]."""
    hidden = [x]
    for i, (weight, bias) in enumerate(zip(state[::2], state[1::2], strict=True)):
        last = 2 * i + 2 == len(state)
        h = torch.baddbmm(bias, hidden[-1], weight)
        hidden.append(h if last else F.relu(h))
    return hidden


def initial(sizes: list[int], members: int, generator: torch.Generator) -> list[Tensor]:
    """Weights and biases in turn, uniform within ±1/√in."""
    state = []
    for inside, outside in pairwise(sizes):
        for rows in (inside, 1):
            draw = torch.rand(
                (members, rows, outside), generator=generator, dtype=torch.float32, device="cpu"
            )
            state.append((2 * draw - 1) / math.sqrt(inside))
    return state


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
    """Continues from a state on the squared error, AdamW with a one-cycle rate.

    Args:
        state: what `initial` or `train` gave.
        x: [M, n, F], or [1, n, F] for all members.
        goal: [n, C], C no more than the last layer.
        epochs: passes over the rows.
        batch: rows a step.
        generator: of the order of the rows, another one for each member.
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
        optimizer = torch.optim.AdamW(state, lr=_RATE, fused=True)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, _RATE, total_steps=epochs * rounds
        )
        for epoch in range(epochs):
            order = torch.stack(
                [torch.randperm(n, generator=generator, device="cpu") for _ in range(members)]
            )
            for rows in order.to(x.device).chunk(rounds, dim=1):
                predicted = evaluate(state, x[member, rows])[-1][..., : goal.shape[1]]
                loss = (predicted - goal[rows]).square().sum(-1).mean(-1).sum()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
            if progress is not None:
                progress((epoch + 1) / epochs)
    return [value.detach() for value in state]


class Network(DtypeStable):
    """One network on [p, log p] with two hidden layers, served in tiles of fixed height.

    Args:
        tensors: the tensors of `state_dict`.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in tensors.items():
            with torch.inference_mode(False):
                self.register_buffer(name, value.detach().clone())

    @classmethod
    def fit(
        cls,
        rows: Tensor,
        goal: Tensor,
        *,
        width: int,
        epochs: int,
        batch: int,
        seed: int,
        progress: Report | None = None,
    ) -> Network:
        """Trains on rows [n, K] and what to predict for them, [n, C]."""
        x = features(rows)
        mean, scale = x.mean(0), x.std(0).clamp_min(1e-6)
        generator = torch.Generator().manual_seed(seed)
        sizes = [x.shape[1], width, width, whole_lanes(goal.shape[1])]
        state = [value.to(x.device) for value in initial(sizes, 1, generator)]
        x = ((x - mean) / scale).unsqueeze(0)
        how = {"epochs": epochs, "batch": batch}
        state = train(state, x, goal, **how, generator=generator, progress=progress)
        tensors = {f"layer{i}": value for i, value in enumerate(state)}
        return cls(tensors | {"mean": mean, "scale": scale})

    def _state(self) -> list[Tensor]:
        return [self.get_buffer(f"layer{i}") for i in range(6)]

    def forward(self, rows: Tensor) -> Tensor:
        """Predicts for rows [N, K], padded to whole lanes: [N, C], float32."""
        state = self._state()
        with neutral(rows.device):
            x = (features(rows) - self.mean) / self.scale
            tiles = [
                evaluate(state, tile.unsqueeze(0))[-1][0] for (tile,) in in_tiles(x, height=_TILE)
            ]
        return torch.cat(tiles)[: len(rows)]

    def gradient(self, rows: Tensor, goal: Tensor) -> Tensor:
        """∇ ½‖G(q) − goal‖² at q = rows, [N, K], float32; the chain rule by hand, so that no graph is built."""
        state, k = self._state(), rows.shape[1]
        with neutral(rows.device):
            x = (features(rows) - self.mean) / self.scale
            pulled = []
            for tile, wanted in in_tiles(x, goal, height=_TILE):
                *hidden, out = evaluate(state, tile.unsqueeze(0))
                g = out - wanted
                for i in (2, 1, 0):
                    g = torch.bmm(g, state[2 * i].transpose(1, 2))
                    if i > 0:
                        g = g * (hidden[i] > 0)
                pulled.append(g[0])
            g = torch.cat(pulled)[: len(rows)] / self.scale
        # Below their floor the logarithms are constant.
        inverse = torch.where(rows > LOG_FLOOR, 1 / rows.clamp_min(LOG_FLOOR), 0.0)
        return g[:, :k] + g[:, k : 2 * k] * inverse
