"""Defend what an estimator of the Adversarial Robustness Toolbox predicts."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from art.defences import postprocessor

from mipoison.defenses import Defense, Deferred
from mipoison.defenses.wire import on_the_wire, require_wire
from mipoison.ops.validation import as_part


class Postprocessor(postprocessor.Postprocessor):  # type: ignore[misc]
    """A defense among the `postprocessing_defences` of an estimator, which apply to its `predict`.

    An attack that asks for gradients or losses gets those of the estimator itself, as with every postprocessor: what
    it finds is not what a client finds, who has the answers alone.

    Args:
        defense: a fitted one, or a `Deferred`. The estimator has to predict probabilities: logits are refused.
        decimals: see `Defended`.

    Raises:
        TypeError: if the defense is none.
        ValueError: for a wrong number of decimals.
    """

    params = ("defense", "decimals")

    def __init__(self, defense: Defense | Deferred, *, decimals: int | None = None) -> None:
        super().__init__(is_fitted=True, apply_fit=False, apply_predict=True)
        self.defense, self.decimals = defense, decimals
        self._check_params()

    def __call__(self, preds: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        """Defended predictions [N, K] of the same dtype; of float64 with decimals.

        Raises:
            ValueError: for rows that are no probability vectors.
        """
        answers: Any = on_the_wire(self.defense, preds, decimals=self.decimals)
        return np.asarray(answers)

    def _check_params(self) -> None:
        if not isinstance(self.defense, Deferred):
            as_part("defense", self.defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
        require_wire(self.defense, self.decimals, None)
