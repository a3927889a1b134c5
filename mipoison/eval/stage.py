"""What every adversary of one seed meets: the parts of the data and the trained target."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mipoison.eval.configuration import Configuration
from mipoison.eval.data import Role, Split, split
from mipoison.eval.methods import Defense, Method
from mipoison.eval.outside_target import is_outside, outside_target
from mipoison.eval.seeding import derive_seed
from mipoison.eval.targets import serve, train_target


@dataclass(frozen=True)
class Stage:
    """One seed's data and target.

    Attributes:
        seed: the experiment's.
        parts: the data by role.
        model: the target classifier, inputs to logits.
    """

    seed: int
    parts: Split
    model: nn.Module

    @classmethod
    def of(cls, configuration: Configuration, seed: int) -> Stage:
        """Splits the data and trains the target, or loads one that is not ours.

        Raises:
            ValueError: if the adversary has too few rows, or a part of the configuration does not fit the data.
        """
        parts = split(configuration.dataset, seed=seed, auxiliary=configuration.auxiliary)
        configuration.adversary.check_rows(len(parts.auxiliary))
        own_seed = derive_seed(seed, "target")
        if is_outside(configuration.target):
            return cls(seed, parts, outside_target(configuration.target, parts, seed=own_seed))
        model = train_target(
            parts.private,
            classes=parts.classes,
            seed=own_seed,
            architecture=configuration.target,
            image_shape=parts.image_shape,
            epochs=configuration.target_epochs,
        )
        return cls(seed, parts, model)

    def served(self, role: Role, *, temperature: float) -> Tensor:
        """The undefended vectors of a role's rows, ``[n, K]``."""
        return serve(self.model, role.inputs, temperature=temperature)

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
