"""Put an audit's numbers, their conditions and their limits into one JSON that a review can cite."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from mipoison.audit.evidence import Evidence
from mipoison.audit.measure.plan import BUDGET_RULE, PRESETS, one_answer
from mipoison.audit.measure.reconstructions import guessed
from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import Measured
from mipoison.audit.report.findings import averaged, gains, of_seeds, recommended, verdict
from mipoison.audit.report.words import LIMITS, MAPPING, RULE, headline
from mipoison.eval.adversaries.base import device_name
from mipoison.eval.presets import LABEL_ONLY, NONE
from mipoison.eval.run.environment import describe_environment

SCHEMA: Final = "mipoison-audit"
VERSION: Final = 1


@dataclass(frozen=True)
class Asked:
    """What was asked for.

    Attributes:
        preset: a key of `PRESETS`.
        seeds: one division of the rows each.
        budgets: mean l1 moves that defenses aim at.
        jobs: processes.
        seconds: what the measuring took.
    """

    preset: str
    seeds: tuple[int, ...]
    budgets: tuple[float, ...]
    jobs: int
    seconds: float


def record(
    evidence: Evidence, asked: Asked, seeds: Sequence[tuple[Setting, Mapping[str, Measured]]]
) -> dict[str, Any]:
    """The content of audit.json.

    Args:
        evidence: inputs and vectors.
        asked: what was asked for.
        seeds: what `run` gives.
    """
    verdicts = [
        verdict(
            measured[NONE.name],
            measured[LABEL_ONLY.name],
            setting.victims.groups,
            seed=setting.seed,
            seeds=len(seeds),
        )
        for setting, measured in seeds
    ]
    told = of_seeds(verdicts)
    each = [
        {"verdict": one, "systems": _gains(measured, leaks=told["leaks"])}
        for one, (_, measured) in zip(verdicts, seeds, strict=True)
    ]
    found = {
        "verdict": told,
        "systems": {
            name: _together([one["systems"][name] for one in each]) for name in each[0]["systems"]
        },
    }
    setting, first = seeds[0]
    for name, one in found["systems"].items():
        one |= {"family": first[name].family, "budget": first[name].budget}
        one["options"] = first[name].numbers.get("options", {})
    only = {name: one for name, one in found["systems"].items() if name not in _REFERENCES}
    chosen = recommended(only) if told["leaks"] else None
    environment = describe_environment(jobs=asked.jobs)
    settings = setting.adversary
    content = {
        "schema": SCHEMA,
        "version": VERSION,
        "headline": headline(evidence.kind, found["verdict"]),
        **environment,
        "adversaries_on": device_name(),
        "source": evidence.source,
        "kind": evidence.kind,
        "rows": len(evidence),
        "inputs": evidence.inputs.shape[1],
        "image_shape": evidence.image_shape,
        "classes": evidence.outputs.shape[1],
        "groups": len(evidence.groups.unique()),
        "notes": list(evidence.notes),
        "skipped": [asdict(one) for one in evidence.skipped],
        "preset": asked.preset,
        "seeds": list(asked.seeds),
        "seconds": asked.seconds,
        "roles": dict(setting.counts),
        "most_rows": dict(PRESETS[asked.preset].most),
        "one_answer_l1": one_answer(evidence.outputs),
        "budgets": list(asked.budgets),
        "budget_rule": BUDGET_RULE,
        "adversary_settings": asdict(settings),
        "error_unit": (
            "squared pixel, pixels in [0, 1]"
            if evidence.kind == "images"
            else "squared input, numbers standardized, categories 0 or 1"
        ),
        **found,
        "recommended": chosen,
        "recommendation_rule": RULE,
        "limits": list(LIMITS),
        "mapping": list(MAPPING),
    }
    if evidence.kind == "table":
        content["guessed"] = guessed(evidence, setting.victims.inputs, setting.auxiliary.inputs)
    if len(each) > 1:
        content["each_seed"] = [
            {"seed": seed, **numbers} for seed, numbers in zip(asked.seeds, each, strict=True)
        ]
    return content


_REFERENCES: Final = (NONE.name, LABEL_ONLY.name)


def _together(seeds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A system's means over seeds; why it failed, where a seed could not fit it."""
    found: dict[str, Any] = next((one for one in seeds if "failed" in one), averaged(seeds))
    return dict(found)


def _gains(measured: Mapping[str, Measured], *, leaks: bool) -> dict[str, Any]:
    none, label = (measured[name] for name in _REFERENCES)
    return {name: gains(one, none, label, leaks=leaks) for name, one in measured.items()}
