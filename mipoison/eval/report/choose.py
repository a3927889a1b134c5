"""Pick the operating point out of a finished run, and say how it is deployed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mipoison.defenses.lpa import AUTO, OBJECTIVES
from mipoison.eval.scores.frontier import fresh, keeps_labels


@dataclass(frozen=True)
class Choice:
    """A defense of a run, and what was measured of it.

    Attributes:
        name: how the run calls it.
        temperature: what the target was served at.
        gain: mean over seeds of the gain under the strongest adversary, the denoiser among them.
        l1: mean over seeds of the realised mean l1.
        certified: mean over seeds of the certified gain; None where a seed certifies nothing.
        conditions: what the numbers hold for.
        code: three lines that deploy it, in front of a model that gives logits.
    """

    name: str
    temperature: float
    gain: float
    l1: float
    certified: float | None
    conditions: str
    code: str

    def __str__(self) -> str:
        """What was measured of it, and under which conditions."""
        proof = "" if self.certified is None else f", certified {self.certified:.2f},"
        return f"{self.name}: gain {self.gain:.2f}{proof} at a mean l1 of {self.l1:.3f} ({self.conditions})."


def choose(
    results: Mapping[str, Any],
    *,
    max_l1: float | None = None,
    min_gain: float | None = None,
    certified: float | None = None,
    temperature: float | None = None,
) -> Choice:
    """The label-preserving defense of largest gain within a distortion, or of least distortion for a gain.

    Args:
        results: what results.json holds.
        max_l1: most realised mean l1 that clients bear.
        min_gain: least gain under the strongest adversary, the denoiser among them.
        certified: least certified gain, which no adversary can lower.
        temperature: which of the run's; needed where there are several.

    Raises:
        ValueError: if not exactly one of the three is given, it is out of range, the run is not finished, the
            temperature is none of the run's, or no defense of the run will do.
    """
    if not results["complete"]:
        raise ValueError("expected a finished run, got one that lacks cells; run it again")
    if sum(bound is not None for bound in (max_l1, min_gain, certified)) != 1:
        raise ValueError("expected one of max_l1, min_gain and certified, got none or several")
    if max_l1 is not None and not max_l1 >= 0:
        raise ValueError(f"max_l1: expected a number >= 0, got {max_l1:g}")
    for name, least in {"min_gain": min_gain, "certified": certified}.items():
        if least is not None and math.isnan(least):
            raise ValueError(f"{name}: expected a number, got {least:g}")
    group, key = _group(results["summary"], temperature)
    # Averaging their answers undoes more than was measured.
    freshly = fresh(group)
    measured = {
        method["name"]: (
            (_gain if certified is None else _certified)(group["defenses"][method["name"]]),
            float(group["defenses"][method["name"]]["utility.l1_mean"]["mean"]),
        )
        for method in results["configuration"]["methods"]
        # A changed rule is for studies: nothing deploys it.
        if method["builder"] not in ("none", "ablation")
        and keeps_labels(group, method)
        and method["name"] not in freshly
    }
    if max_l1 is not None:
        fit = [name for name, (_, l1) in measured.items() if l1 <= max_l1]
        best = max(fit, key=lambda name: measured[name][0], default=None)
        nearest = min(measured, key=lambda name: measured[name][1])
    else:
        least = certified if min_gain is None else min_gain
        assert least is not None
        fit = [name for name, (gain, _) in measured.items() if gain >= least]
        best = min(fit, key=lambda name: measured[name][1], default=None)
        nearest = max(measured, key=lambda name: measured[name][0])
    if best is None:
        gain, l1 = measured[nearest]
        raise ValueError(
            f"expected a bound that a defense of this run keeps; the nearest is {nearest} with "
            f"a {'gain' if certified is None else 'certified gain'} of {gain:.2f} at a mean l1 of {l1:.3f}"
        )
    method = next(m for m in results["configuration"]["methods"] if m["name"] == best)
    seeds = ", ".join(map(str, group["seeds"]))
    configuration = results["configuration"]
    disjoint = ", auxiliary data of other classes" if configuration["auxiliary"] == "other" else ""
    conditions = f"{configuration['dataset']}{disjoint}, T = {key}, seeds {seeds}"
    chosen, l1 = group["defenses"][best], measured[best][1]
    known = chosen["certificate.gain"]["mean"]
    return Choice(best, float(key), _gain(chosen), l1, known, conditions, _code(method, float(key)))


def _gain(measured: Mapping[str, Any]) -> float:
    """Under the stronger of the adaptive adversary and the denoiser; some denoisers measure nothing."""
    both = measured["all.gain"]["mean"]
    return float(measured["adaptive.gain"]["mean"] if both is None else both)


def _certified(measured: Mapping[str, Any]) -> float:
    """The certified gain; that of a defense without a certificate is below every bound."""
    found = measured["certificate.gain"]["mean"]
    return -math.inf if found is None else float(found)


def _group(summary: Mapping[str, Any], temperature: float | None) -> tuple[Mapping[str, Any], str]:
    """The run's part for a temperature, and how it is called there."""
    names = list(summary)
    if temperature is None and len(names) == 1:
        return summary[names[0]], names[0]
    name = None if temperature is None else f"{temperature:g}"
    if name not in names:
        raise ValueError(f"temperature: expected one of {', '.join(names)}, got {temperature}")
    return summary[name], name


def _code(method: Mapping[str, Any], temperature: float) -> str:
    """Three lines; outputs and inputs are the defender's own, never private, data."""
    options, builder = method["options"], method["builder"]
    given = "".join(f", {name}={value!r}" for name, value in options.items())
    objective = options.get("objective")
    keyed = builder == "lpa" and (objective == AUTO or OBJECTIVES[objective].keyed)
    key = ", key=secret" if keyed else ""
    made = {
        "lpa": ("import mipoison as mp", f"mp.LPA.fit(outputs, inputs{given}{key})"),
        "label_only": (
            "import mipoison as mp, mipoison.defenses as defenses",
            "defenses.LabelOnly()",
        ),
        "outside": (
            "import torch; from mipoison.eval.outside import outside_defense",
            f"outside_defense({options.get('callable')!r}, outputs, inputs, key=secret, seed=0)",
        ),
        "rounding": (
            "import mipoison as mp, mipoison.defenses as defenses",
            f"defenses.Rounding({options.get('decimals')})",
        ),
    }
    swept = (
        "import mipoison as mp; from mipoison.eval.strengths import SWEEPS",
        f"SWEEPS[{builder!r}].realise(outputs, {options.get('mean_l1')}, key=secret, seed=0)",
    )
    imports, defense = made.get(builder, swept)
    if builder == "outside":
        served = (
            f"served = lambda x: defense(torch.softmax(model(x).detach() / {temperature:g}, -1))"
        )
    else:
        served = (
            f'served = mp.Defended(model, defense, gives="logits", temperature={temperature:g})'
        )
    return f"{imports}\ndefense = {defense}\n{served}"
