"""The surrogate: inversion models that the defender trains in place of the adversary's."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.construction import constructor
from mipoison.neutral import neutral, neutrally, plain_graph
from mipoison.nn import Ensemble, fit_networks
from mipoison.ops import recover, unchecked
from mipoison.ops.arrays import as_float32
from mipoison.ops.validation import (
    as_count,
    as_inputs,
    as_rows,
    as_seed,
    require_probabilities,
)
from mipoison.progress import Progress, Report, as_report
from mipoison.reference.network import in_tiles

_BATCH: Final = 128
# Passes over the data. Where a class has at most so many rows, networks memorise them, and fewer may recover fresh rows
# better (decision 26): those that leave this share of the error on a quarter of the rows that is kept out, or less.
_PASSES: Final = (30, 15, 8, 4, 2)
_FEW_A_CLASS: Final = 4
_KEPT_OUT: Final = 4
_FEWEST: Final = 64
_BETTER: Final = 0.98


def _principal_components(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """The mean [D], and an orthonormal basis [C, D] of the leading min(most, D, n − 1) components."""
    offset = x.mean(0)
    *_, basis = torch.linalg.svd(x - offset, full_matrices=False)
    return offset, basis[: max(1, min(most, x.shape[1], x.shape[0] - 1))].contiguous()


class Surrogate(Ensemble):
    """An ensemble of small inversion models: [p, log p] → principal components of the inputs.

    The pixel MSE of a reconstruction is the MSE of its coefficients plus a constant, so training on
    coefficients takes seconds on a CPU. Make one with `Surrogate.fit`.

    Args:
        state: the tensors of `state_dict`.
        input_shape: shape of one input, without the batch.
    """

    offset: Tensor
    basis: Tensor
    k: Tensor

    def __init__(self, state: dict[str, Tensor], input_shape: tuple[int, ...]) -> None:
        super().__init__(state)
        self.input_shape = tuple(input_shape)

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`."""
        if not self.k.is_meta and int(tensors["k"]) != self.classes:
            raise ValueError(
                f"expected the state of a surrogate of K={self.classes} classes, got K={int(tensors['k'])}; pass the "
                "state of one that was fitted on as many, or save it with its defense and read it with mipoison.load"
            )

    @property
    def classes(self) -> int:
        """K, the length of the vectors it was fitted on."""
        return int(self.k)

    @constructor
    @neutrally
    def fit(
        cls,
        outputs: Any,
        inputs: Any,
        *,
        members: int = 3,
        width: int = 256,
        epochs: int | None = None,
        components: int = 80,
        seed: int = 0,
        progress: Report | None = None,
    ) -> Surrogate:
        """Trains the ensemble on the defender's non-private pairs.

        Args:
            outputs: undefended confidence vectors, [N, K], N ≥ 2; tensor or array.
            inputs: the inputs that produced them, [N, ...] of any shape; tensor or array, a list of either, or
                a list of images of one size.
            members: networks in the ensemble, ≥ 1.
            width: units of each of the two hidden layers, ≥ 1; rounded up to a multiple of 32.
            epochs: passes over the data, ≥ 1. By default 30; with 64 rows or more, but at most four a class, as many
                out of 30, 15, 8, 4 and 2 as a quarter of the rows, kept out of a first training, asks for.
            components: most principal components to predict, ≥ 1.
            seed: of initialisation and batches. Training is not keyed: the surrogate is not secret.
            progress: called with the share done, in (0, 1], after every pass.

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
        sizes = {"members": members, "width": width, "components": components}
        counts: dict[str, Any] = {name: as_count(name, value, 1) for name, value in sizes.items()}
        passes = None if epochs is None else as_count("epochs", epochs, 1)
        seed, progress = as_seed(seed), as_report(progress)
        rows = as_rows("outputs", outputs).detach()
        require_probabilities("outputs", rows)
        x = as_inputs(inputs, rows)
        if len(rows) < 2:
            raise ValueError(
                f"expected at least 2 outputs to train a surrogate on, got {len(rows)}; pass more of your own data"
            )
        # Clones made outside inference mode are ordinary tensors, which training needs.
        with torch.inference_mode(False):
            pairs = rows.to(torch.float32).clone(), x.clone()
            part = Progress(progress)
            if passes is None and _FEWEST <= len(rows) <= _FEW_A_CLASS * rows.shape[1]:
                passes = _passes(*pairs, seed, part.part(0.0, 0.5), **counts)
                part = part.part(0.5, 1.0)
            passes = passes or _PASSES[0]
            return cls(
                _fitted(*pairs, seed, part, epochs=passes, **counts),
                tuple(x.shape[1:]),
            )

    @property
    def outputs(self) -> int:
        """C, the number of components."""
        return self.basis.shape[0]

    def forward(self, outputs: Any) -> Tensor:
        """Coefficients predicted from confidence vectors: [N, K] → [N, C], float32.

        Without derivative: `gradient` has one. `mipoison.recover` does the same, and takes arrays as they come.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for another K than it was fitted on, or rows that are no probability vectors; names them.
        """
        return recover(self._seen(outputs), self)

    def reconstruct(self, outputs: Any) -> Tensor:
        """Inputs predicted from confidence vectors: [N, K] → [N, ...], float32; see `forward`."""
        coefficients = self.forward(outputs)
        with neutral(coefficients.device):
            flat = coefficients @ self.basis + self.offset
        return flat.reshape(-1, *self.input_shape)

    def gradient(self, outputs: Tensor, goal: Tensor) -> Tensor:
        """∇_q ½‖G(q) − goal‖² at q = outputs, by the chain rule; works under `inference_mode`.

        Args:
            outputs: q, [N, K].
            goal: coefficients, [N, C].

        Returns:
            [N, K], float32.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for another K than it was fitted on, a goal of another shape, or rows that are no probability
                vectors; names them.
        """
        rows = self._seen(outputs)
        require_probabilities("outputs", rows)
        wanted = as_float32("goal", goal, rows)
        if wanted.shape != (len(rows), self.outputs):
            raise ValueError(
                f"expected goal of shape ({len(rows)}, {self.outputs}), coefficients for each row, got "
                f"{tuple(wanted.shape)}"
            )
        return unchecked.pull(rows, wanted, self, smooth=False)[0]

    def gradient_of(self, score: Callable[..., Tensor], outputs: Tensor, *others: Tensor) -> Tensor:
        """∇_q of a score of the rows at q = outputs, tile by tile; works under `inference_mode`.

        Args:
            score: maps tiles ``(q, *others)`` to a tensor whose sum is differentiated; its value for one
                row may not depend on another.
            outputs: q, [N, K].
            others: further arguments of the score for each row, [N, ...] each.

        Returns:
            [N, K], float32.
        """
        rows = self._seen(outputs)
        if len(rows) == 0:
            return rows
        gradients = []
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            neutral(rows.device),
            plain_graph(),
        ):
            for tile, *given in in_tiles(rows, *others):
                q = tile.clone().requires_grad_()
                total = score(q, *(x.clone() for x in given)).sum()
                gradients.append(torch.autograd.grad(total, q)[0])
        return torch.cat(gradients)[: len(rows)]

    def _seen(self, outputs: Any) -> Tensor:
        """The rows in float32, checked to have the K of the fit."""
        rows = as_rows("outputs", outputs)
        if rows.shape[1] != self.classes:
            raise ValueError(
                f"expected outputs with K={self.classes} classes, as fitted, got K={rows.shape[1]}"
            )
        return rows.to(torch.float32)

    def settings(self) -> dict[str, Any]:
        """The arguments of `restore` beside the tensors; JSON types."""
        return {"input_shape": list(self.input_shape)}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Surrogate:
        """Builds the surrogate from the values of `settings` and `state_dict`."""
        return cls(tensors, tuple(settings["input_shape"]))

    def extra_repr(self) -> str:
        """K, the number of members, and sizes."""
        return (
            f"classes={self.classes}, members={self.members}, width={self.width}, "
            f"components={self.outputs}, input_shape={self.input_shape}"
        )


def _passes(
    rows: Tensor, x: Tensor, seed: int, progress: Report, *, components: int, **size: int
) -> int:
    """How many passes a quarter of the rows, which is kept out, asks for."""
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rows), generator=generator, device="cpu").to(rows.device)
    out, others = order.tensor_split([len(rows) // _KEPT_OUT])
    flat = x.reshape(len(x), -1)
    shown = _principal_components(flat[others], components)
    best, least = _PASSES[0], math.inf
    for i, passes in enumerate(_PASSES):
        made = _trained(rows[others], flat[others], shown, seed, None, epochs=passes, **size)
        one = Surrogate(made, tuple(flat.shape[1:]))
        found = unchecked.recover(rows[out], one) @ one.basis + one.offset
        error = float((found - flat[out]).square().mean())
        if error > _BETTER * least:
            break
        best, least = passes, error
        progress((i + 1) / len(_PASSES))
    return best


def _fitted(
    rows: Tensor,
    x: Tensor,
    seed: int,
    progress: Report | None,
    *,
    components: int,
    **how: int,
) -> dict[str, Tensor]:
    """The tensors of a surrogate trained on rows [N, K] and inputs [N, ...]."""
    flat = x.reshape(len(x), -1)
    shown = _principal_components(flat, components)
    return _trained(rows, flat, shown, seed, progress, **how)


def _trained(
    rows: Tensor,
    flat: Tensor,
    shown: tuple[Tensor, Tensor],
    seed: int,
    progress: Report | None,
    *,
    members: int,
    width: int,
    epochs: int,
) -> dict[str, Tensor]:
    """The same of inputs [N, D] whose offset and basis are known."""
    offset, basis = shown
    goal = (flat - offset) @ basis.T
    how = {"members": members, "width": width, "epochs": epochs, "batch": _BATCH}
    networks = fit_networks(rows, goal, **how, seed=seed, progress=progress)
    k = torch.tensor(rows.shape[1], dtype=torch.int64, device="cpu")
    return networks | {"offset": offset, "basis": basis, "k": k}
