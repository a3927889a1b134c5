"""One-parameter defense by the exponential mechanism (Ye et al., One Parameter Defense, IEEE TIFS 2022)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.ops.validation import as_number
from mipoison.random import uniforms


def exponential_draws(p: Tensor, u: Tensor, rate: float) -> Tensor:
    """Quantiles at u of the density ∝ exp(−rate·|v − p|) over v in [0, 1]; float64, of p's shape."""
    below, above = -torch.expm1(-rate * p), -torch.expm1(-rate * (1 - p))
    mass = u * (below + above) - below
    return (p - mass.sign() * torch.log1p(-mass.abs()) / rate).clamp(0.0, 1.0)


class OneParameter(Reshaped):
    """Redraws each entry by the exponential mechanism, keeps the order of the entries, renormalises.

    An entry becomes v in [0, 1] with density ∝ exp(−ε|v − p|/2): the utility −|v − p| has
    sensitivity one. The draws are assigned in the order of the row's entries, so the label stays.
    The implementation follows the abstract of the source (one parameter, modify and normalise,
    order kept); the details are this package's. Draws are a function of (key, row), since fresh ones
    could be averaged away, so formal differential privacy is not claimed.

    Args:
        privacy_budget: ε in [1e-6, 1e9]; smaller moves more. Entries move by about 2/ε.
        key: 16 bytes or more, an int (for experiments) or None (one secret per process).
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "one-parameter DP"
    saved: ClassVar[tuple[str, ...]] = ("privacy_budget",)

    def __init__(
        self,
        *,
        privacy_budget: float = 50.0,
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.privacy_budget = as_number("privacy_budget", privacy_budget, 1e-6, 1e9)
        self._key: Key = resolve_key(key)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        u = uniforms(ops.row_bits(p, key=self._key, words=p.shape[1]))
        drawn = exponential_draws(p, u, self.privacy_budget / 2).sort(dim=-1, descending=True)
        order = given.sort(dim=-1, descending=True, stable=True).indices
        return torch.zeros_like(p).scatter(-1, order, drawn.values)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"privacy_budget={self.privacy_budget:g}"
