"""Target gradients of a defensive loss, which rows' gradients are aligned with; fixed when the defense is fitted."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from mipoison.defenses.lpa.gradients import Gradient, factors, summed
from mipoison.dtype_stable import DtypeStable
from mipoison.neutral import neutral
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_choice
from mipoison.surrogate import Surrogate

LOSSES: Final = ("decoy", "clean")
# The key chooses among this many targets: with one, another key gave a third of the rows the same answer.
_TARGETS: Final = 8


class Targets(DtypeStable):
    """A few target gradients, each of the defensive loss on a share of the defender's rows.

    Args:
        state: "weight0", [T, M, in, out], and "bias0", [T, M, 1, out], and so on for each layer.
    """

    def __init__(self, state: dict[str, Tensor]) -> None:
        super().__init__()
        for name, value in state.items():
            # Not an inference tensor, even where one is fitted or loaded under inference_mode.
            with torch.inference_mode(False):
                self.register_buffer(name, value.detach().clone())
        self.layers = sum(name.startswith("weight") for name in state)

    def __len__(self) -> int:
        return len(self.get_buffer("weight0"))

    def __getitem__(self, index: int) -> Gradient:
        """One target, of length one over all layers for each member."""
        return [
            (self.get_buffer(f"weight{i}")[index], self.get_buffer(f"bias{i}")[index])
            for i in range(self.layers)
        ]

    @classmethod
    def fit(
        cls,
        surrogate: Surrogate,
        rows: Tensor,
        inputs: Tensor,
        *,
        loss: str = "decoy",
        layers: int,
        seed: int = 0,
    ) -> Targets:
        """Sums the loss's gradients over each share of the rows.

        Args:
            surrogate: the inversion models.
            rows: clean vectors, float32 [N, K].
            inputs: what produced them, float32 [N, ...].
            loss: "decoy": L to the input of another row of the label. "clean": −L to the row's input.
            layers: how many of the first layers are kept.
            seed: of the decoys and the shares.
        """
        as_choice("loss", loss, LOSSES)
        flat = inputs.reshape(len(inputs), -1)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(rows), generator=generator, device="cpu")
        order = order.to(rows.device)
        rows, flat = rows[order], flat[order]
        wanted = flat if loss == "clean" else _decoys(rows, flat)
        # −∇L points away from the row's input.
        sign = -1.0 if loss == "clean" else 1.0
        with torch.no_grad(), neutral(rows.device):
            goal = (wanted - surrogate.offset) @ surrogate.basis.T
            count = min(_TARGETS, len(rows))
            targets = [
                summed(factors(surrogate, rows[i::count], goal[i::count])) for i in range(count)
            ]
        state = {}
        for i in range(layers):
            state[f"weight{i}"] = sign * torch.stack([target[i][0] for target in targets])
            state[f"bias{i}"] = sign * torch.stack([target[i][1] for target in targets])
        return cls(state)


def _decoys(rows: Tensor, flat: Tensor) -> Tensor:
    """For each row the input of the next one of its label; the mean input where there is no other."""
    label = label_of(rows)
    decoys = flat.mean(0).expand_as(flat).clone()
    for t in label.unique():
        members = (label == t).nonzero().squeeze(-1)
        if len(members) > 1:
            decoys[members] = flat[members.roll(1)]
    return decoys
