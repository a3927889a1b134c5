"""Temperature scaling of confidence vectors, without the logits."""

from __future__ import annotations

from typing import ClassVar, Final

from torch import Tensor

from mipoison.defenses.baselines.reshaped import Reshaped
from mipoison.ops.elementwise import entrywise
from mipoison.ops.validation import as_number
from mipoison.reference.rounding import at

# Beyond it all entries are alike, zeros too where it is infinite.
_HOTTEST: Final = 1e300


class Temperature(Reshaped):
    """Answers with q ∝ p^(1/T), which is the softmax of the logits at T times their temperature.

    An adversary who knows T can undo it up to rounding, and one who trains on its answers loses
    little. It changes the calibration that a client sees.

    Args:
        temperature: T in (0, 1e300]; above one flatter, below one sharper. Zeros stay zeros.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.

    Example:
        >>> import torch
        >>> Temperature(temperature=0.5)(torch.tensor([[0.5, 0.25, 0.25]]))
        tensor([[0.6667, 0.1667, 0.1667]])
    """

    name: ClassVar[str] = "temperature"
    saved: ClassVar[tuple[str, ...]] = ("temperature",)

    def __init__(
        self, *, temperature: float = 2.0, on_invalid: str = "raise", margin: float = 1e-3
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.temperature = as_number("temperature", temperature, 0.0, _HOTTEST, open_low=True)

    def reshape(self, p: Tensor, label: Tensor, given: Tensor) -> Tensor:
        """See `Reshaped.reshape`."""
        # Relative to the largest entry, so that no temperature underflows the whole row.
        relative = p / at(p, label).unsqueeze(-1)
        return entrywise(lambda x: x ** (1 / self.temperature), relative)

    def extra_repr(self) -> str:
        """Settings."""
        return f"temperature={self.temperature:g}"
