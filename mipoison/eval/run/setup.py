"""One seed's data and trained target, which every adversary of that seed attacks."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mipoison.eval.data.splits import Role, Split
from mipoison.eval.methods import Defense, Method
from mipoison.eval.scalars import derive_seed
from mipoison.eval.targets.own import is_outside, outside_target
from mipoison.eval.targets.stored import STORED, columns_of, require_stored, served_stored
from mipoison.eval.targets.training import serve, train_target


@dataclass(frozen=True)
class Setup:
    """One seed's data and target.

    Attributes:
        seed: the experiment's.
        parts: the data by role.
        target: the configuration's.
        model: the target classifier, inputs to logits; None: its answers are stored with the data.
    """

    seed: int
    parts: Split
    target: str
    model: nn.Module | None

    @classmethod
    def of(cls, parts: Split, target: str, *, epochs: int, seed: int) -> Setup:
        """Trains the target, or loads one that is not ours.

        Args:
            parts: the data by role.
            target: the configuration's.
            epochs: passes over the private rows, of a target that is trained here.
            seed: the experiment's.

        Raises:
            ValueError: if the target does not fit the data.
        """
        if target == STORED:
            require_stored(parts)
            return cls(seed, parts, target, None)
        target_seed = derive_seed(seed, "target")
        if is_outside(target):
            return cls(seed, parts, target, outside_target(target, parts, seed=target_seed))
        model = train_target(
            parts.private,
            classes=parts.classes,
            seed=target_seed,
            architecture=target,
            image_shape=parts.image_shape,
            epochs=epochs,
        )
        return cls(seed, parts, target, model)

    def served(self, role: Role, *, temperature: float) -> Tensor:
        """The undefended vectors of a role's rows, ``[n, K]``."""
        if self.model is None:
            return served_stored(role, temperature=temperature)
        return serve(self.model, role.inputs, temperature=temperature)

    def columns(self, role: Role) -> Tensor | None:
        """The true class of each row as the target numbers them, ``[n]``; None where that is not known."""
        return columns_of(self.parts, role, self.target)

    def accuracy(self, role: Role) -> float | None:
        """Share of a role's rows that the target classifies as labelled; None where their answers or classes lack."""
        true = self.columns(role)
        if true is None or (self.model is None and role.logits is None):
            return None
        served = self.served(role, temperature=1.0)
        return float((served.argmax(1) == true).double().mean())

    def defense(self, method: Method, own: Tensor, *, key: int | None = None) -> Defense:
        """Fits a defense on the defender's own rows.

        Args:
            method: which.
            own: their undefended vectors, as `served` gives them.
            key: instead of the deployment's.
        """
        return method.build(
            own,
            self.parts.defender.inputs,
            key=derive_seed(self.seed, "key") if key is None else key,
            seed=derive_seed(self.seed, "surrogate"),
            groups=self.parts.defender.rows,
        )
