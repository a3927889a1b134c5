"""Reconstruct by look-up: the mean input of the nearest vectors, or of the served label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from mipoison.eval.adversaries.base import features


class NearestNeighbours:
    """Averages the inputs whose served vectors lie closest (Euclidean distance of the features).

    There is nothing to train, so this adversary cannot be under-trained, and a defense that
    fools gradients does not fool it.

    Args:
        neighbours: k, how many inputs are averaged.
        kind: "raw" or "log" features.
        log_floor: smallest entry before the logarithm.

    Example:
        >>> queries = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
        >>> pixels = torch.tensor([[0.0], [1.0], [0.5]])
        >>> nearest = NearestNeighbours(neighbours=1).fit(queries, pixels)
        >>> nearest.reconstruct(torch.tensor([[0.55, 0.45]]))
        tensor([[1.]])
    """

    def __init__(self, *, neighbours: int = 10, kind: str = "raw", log_floor: float = 1e-6) -> None:
        self.name = f"{neighbours}-NN, {kind}"
        self.neighbours = neighbours
        self.kind = kind
        self.log_floor = log_floor

    def fit(self, defended: Tensor, inputs: Tensor) -> NearestNeighbours:
        """Keeps the features of ``defended`` ``[(E,) n, K]`` and the inputs ``[n, D]``.

        Raises:
            ValueError: if there are fewer rows than neighbours.
        """
        if len(inputs) < self.neighbours:
            raise ValueError(
                f"neighbours: expected at most the {len(inputs)} rows given, got {self.neighbours}"
            )
        self._features = features(defended, self.kind, log_floor=self.log_floor)
        self._inputs = inputs
        return self

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns the mean input of the nearest rows, ``[(E,) m, D]``, for as many systems as it was fitted on."""
        return reconstruct_together([self], defended)[self.name]

    def average(self, distances: Tensor) -> Tensor:
        """The mean input of the nearest rows, ``[m, D]``, by the distances to all of them, ``[m, n]``."""
        last = distances.topk(self.neighbours, dim=-1, largest=False).values[:, -1:]
        nearer, level = distances < last, distances == last
        # Of equally distant rows the first are taken, so that equal served vectors give one answer.
        missing = self.neighbours - nearer.sum(-1, keepdim=True)
        chosen = nearer | (level & (level.cumsum(-1) <= missing))
        places = chosen.nonzero()[:, 1].reshape(-1, self.neighbours)
        return torch.nn.functional.embedding_bag(places, self._inputs, mode="mean")


def reconstruct_together(
    lookups: Sequence[NearestNeighbours], defended: Tensor
) -> dict[str, Tensor]:
    """What several look-ups in the same vectors reconstruct, by their names; distances are computed once.

    Args:
        lookups: all fitted on the same vectors, and with the same features.
        defended: ``[(E,) m, K]``, of as many systems as they were fitted on.
    """
    known = lookups[0]._features
    queries = features(defended, lookups[0].kind, log_floor=lookups[0].log_floor)
    alone = queries.dim() == 2
    made: dict[str, list[Tensor]] = {lookup.name: [] for lookup in lookups}
    for asked, rows in [(queries, known)] if alone else zip(queries, known, strict=True):
        distances = torch.cdist(asked, rows, compute_mode="donot_use_mm_for_euclid_dist")
        for lookup in lookups:
            made[lookup.name].append(lookup.average(distances))
    return {name: own[0] if alone else torch.stack(own) for name, own in made.items()}


class LabelOnly:
    """Ignores the confidences and answers with the class mean of the served label.

    Its error is the ceiling of every label-preserving defense: an adversary can always throw the
    vector away and keep the label. A label never seen gets the mean of all inputs.

    Example:
        >>> import torch
        >>> queries = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
        >>> pixels = torch.tensor([[0.0], [1.0], [0.25]])
        >>> LabelOnly().fit(queries, pixels).reconstruct(torch.tensor([[0.7, 0.3]]))
        tensor([[0.5000]])
    """

    name = "label only"

    def fit(self, defended: Tensor, inputs: Tensor) -> LabelOnly:
        """Averages the inputs ``[n, D]`` within each label of ``defended`` ``[(E,) n, K]``."""
        members = one_hot(defended.argmax(-1), defended.shape[-1]).to(inputs.dtype)
        counts = members.sum(-2).unsqueeze(-1)
        means = members.transpose(-1, -2) @ inputs / counts.clamp_min(1.0)
        self._means = means.where(counts > 0, inputs.mean(0))
        return self

    def reconstruct(self, defended: Tensor) -> Tensor:
        """Returns the mean image of each row's label, ``[(E,) m, D]``."""
        chosen = one_hot(defended.argmax(-1), defended.shape[-1]).to(self._means.dtype)
        return chosen @ self._means
