"""Reconstruct the mean auxiliary image of the served label: what no defense can take away."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import one_hot


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
