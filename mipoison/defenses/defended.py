"""The wrapper that stands between a classifier and its clients."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from mipoison.defenses.base import Defense
from mipoison.ops.identity import Ids
from mipoison.ops.validation import as_choice, as_number

GIVES: Final = ("probabilities", "logits")


class Defended(nn.Module):
    """A classifier whose answers are defended: inputs → defended outputs.

    What the model gives is decided here, once, never guessed per batch: told wrongly, logits are
    refused as no probability vectors, not served.

    Args:
        model: maps inputs to [N, K] probabilities or logits. It is put into eval mode: an answer
            must be a function of the query alone.
        defense: any defense of this package.
        gives: "probabilities" (default) or "logits", what the model returns.
        temperature: T > 0 of the softmax over logits.

    Raises:
        TypeError: if the defense is none.
        ValueError: for a wrong choice or range.

    Example:
        >>> import mipoison as mp, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
        >>> served = mp.Defended(model, mp.LPA.fit(model(torch.randn(32, 4)), torch.randn(32, 4)))
        >>> served(torch.randn(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        defense: Defense,
        *,
        gives: str = "probabilities",
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        if not isinstance(defense, Defense):
            raise TypeError(
                f"expected defense to be a mipoison defense such as mp.LPA, got {type(defense).__name__}"
            )
        self.model = model
        self.defense = defense
        self.gives = as_choice("gives", gives, GIVES)
        self.temperature = as_number("temperature", temperature, 0.0, open_low=True)
        if gives == "probabilities" and temperature != 1.0:
            raise ValueError(
                f"expected temperature 1 with gives='probabilities', got {temperature:g}; "
                "a temperature acts on logits"
            )
        self.eval()

    def train(self, mode: bool = True) -> Defended:
        """Stays in eval mode: dropout would answer one query in many ways, which can be averaged."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, *args: Any, ids: Ids = None, **kwargs: Any) -> Tensor:
        """Defended outputs [N, K] for whatever the model takes.

        Args:
            args: what the model takes.
            ids: identities of the requests to key on, see `Defense.forward`; not for the model.
            kwargs: what else the model takes.

        Raises:
            ValueError: if the model's answer is no batch of probability vectors.
        """
        outputs = self.model(*args, **kwargs)
        if self.gives == "logits":
            outputs = torch.softmax(outputs / self.temperature, dim=-1)
        return self.defense(outputs, ids=ids)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        """Settings."""
        return f"gives={self.gives!r}, temperature={self.temperature:g}"
