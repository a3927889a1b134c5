"""Hold one seed's rows by party, with the adversaries that will attack them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from torch import Tensor

from mipoison.audit.evidence import Evidence
from mipoison.audit.measure.plan import Preset
from mipoison.audit.measure.reconstructions import Space
from mipoison.audit.measure.roles import divide
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.scalars import derive_seed

# Reports of a fit.
FIT_STEPS: Final = 20


@dataclass(frozen=True)
class Party:
    """Rows of one role: inputs [n, D], vectors [n, K] and groups [n]."""

    inputs: Tensor
    outputs: Tensor
    groups: Tensor

    @classmethod
    def of(cls, evidence: Evidence, rows: Tensor) -> Party:
        """The rows of an audit."""
        return cls(
            evidence.inputs[rows], evidence.outputs[rows].float(), evidence.groups[rows].long()
        )

    def __len__(self) -> int:
        return len(self.inputs)


@dataclass(frozen=True)
class Setting:
    """One seed's rows, who holds them, and how hard the adversaries try.

    Attributes:
        described: the evidence without its rows: kind, columns, image shape.
        counts: rows by role.
        adversary: the adversaries' settings.
        seed: of roles, fits and adversaries, each by a stream of its own.
        shown: pictures that are kept.
    """

    described: Evidence
    counts: Mapping[str, int]
    defender: Party
    auxiliary: Party
    victims: Party
    rest: Party
    space: Space
    adversary: AdversarySettings
    seed: int
    shown: int

    @classmethod
    def of(cls, evidence: Evidence, preset: Preset, seed: int) -> Setting:
        """Divides the rows.

        Raises:
            ValueError: if they are too few.
        """
        roles = divide(evidence.groups, most=preset.most, seed=derive_seed(seed, "roles"))
        auxiliary = Party.of(evidence, roles.auxiliary)
        return cls(
            described=replace(
                evidence,
                inputs=evidence.inputs[:0],
                outputs=evidence.outputs[:0],
                groups=evidence.groups[:0],
            ),
            counts=roles.counts,
            defender=Party.of(evidence, roles.defender),
            auxiliary=auxiliary,
            victims=Party.of(evidence, roles.victims),
            rest=Party.of(evidence, roles.rest[: preset.most_rest]),
            space=Space.of(auxiliary.inputs, seed=derive_seed(seed, "space")),
            adversary=preset.adversary_for(len(roles.auxiliary)),
            seed=seed,
            shown=preset.shown,
        )

    @property
    def steps(self) -> int:
        """How often the measuring of one defense reports."""
        settings = self.adversary
        return FIT_STEPS + settings.epochs + (1 + len(settings.readers)) * settings.wide_epochs + 1
