"""Attack the vectors without a defense, the label alone, and the vectors under each defense."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.audit.measure.plan import references
from mipoison.audit.measure.reconstructions import judge
from mipoison.audit.measure.served import certificate, kept, saved
from mipoison.audit.measure.setting import FIT_STEPS, Party, Setting
from mipoison.eval.adversaries.attack import attack
from mipoison.eval.adversaries.base import Attack, Network, repeatable
from mipoison.eval.adversaries.recovery import attack_denoised
from mipoison.eval.data.splits import Role
from mipoison.eval.methods import BUILDERS, Method, Own
from mipoison.eval.methods import Defense as Served
from mipoison.eval.metrics import row_errors
from mipoison.eval.run.environment import one_thread
from mipoison.eval.scalars import derive_seed
from mipoison.eval.scores.frontier import budget_of
from mipoison.eval.scores.utility import repeats, time_per_row, utility

Tick = Callable[[], None]
# What clients see of a defense, beside its gains.
_UTILITY: Final = ("l1_mean", "l1_max", "unchanged", "labels_changed", "top_change_mean")
_ANY: Final = (-float("inf"), float("inf"))  # Codes of inputs are no pixels.


@dataclass(frozen=True)
class Measured:
    """What was measured of one system.

    Attributes:
        name: how reports call it.
        family: its kind, without the strength.
        budget: the mean l1 that it aims at; None: it has no budget.
        numbers: plain values; "failed" alone where it could not be fitted.
        variants: the adversary's variants.
        denoisers: how many of them, the last, hold undefended answers to their own queries.
        errors: each victim's mean squared error under each variant, [V, M].
        shown: the strongest variant's reconstruction of some victims, [S, D].
        file: the saved defense; empty where there is none.
    """

    name: str
    family: str
    budget: float | None
    numbers: dict[str, Any]
    variants: tuple[str, ...] = ()
    denoisers: int = 0
    errors: npt.NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 0)))
    shown: npt.NDArray[np.float32] = field(default_factory=lambda: np.empty((0, 0), np.float32))
    file: bytes = b""


@dataclass(frozen=True)
class Baseline:
    """The references, and the networks that reconstruct from undefended vectors."""

    references: tuple[Measured, ...]
    networks: dict[str, Network]


def fit(setting: Setting, method: Method, report: Callable[[float], None]) -> Served:
    """Fits a defense on the defender's rows.

    Args:
        setting: whose rows, and which seed.
        method: the defense.
        report: called with the share that is done; an exception from it ends the fit.

    Raises:
        ValueError: if it cannot be fitted, as for a budget out of reach.
    """
    held = setting.defender
    own = Own(
        held.outputs,
        held.inputs,
        groups=held.groups if len(held.groups.unique()) < len(held) else None,
        # A key for the measurement alone: a deployment has one of its own.
        key=derive_seed(setting.seed, "key"),
        seed=derive_seed(setting.seed, "defense"),
        progress=report,
    )
    return BUILDERS[method.builder].build(own, dict(method.options))


def measure_references(setting: Setting, tick: Tick) -> Baseline:
    """Attacks the vectors as they are, and those that tell the label alone, side by side."""
    with one_thread(), repeatable():
        methods = references()
        answers = _Answers.of(setting, [fit(setting, method, _silent) for method in methods])
        for _ in range(FIT_STEPS):
            tick()
        adaptive = _attacked(setting, answers, tick)
        networks = {name: adaptive.networks[name].member(0) for name in setting.adversary.readers}
        denoised = _denoised(setting, networks, answers)
        tick()
        made = tuple(
            _measured(setting, method, answers, adaptive, denoised, system)
            for system, method in enumerate(methods)
        )
        return Baseline(made, networks)


def measure_defense(
    setting: Setting, networks: Mapping[str, Network], method: Method, tick: Tick
) -> Measured:
    """Fits a defense and attacks it; one that cannot be fitted says why.

    Args:
        setting: rows and adversaries.
        networks: `Baseline.networks`.
        method: the defense.
        tick: called `Setting.steps` times.
    """
    told = 0

    def report(share: float) -> None:
        nonlocal told
        while told < min(FIT_STEPS, int(share * FIT_STEPS)):
            told += 1
            tick()

    with one_thread(), repeatable(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # (Of a missed budget, which is measured here.)
        started = perf_counter()
        try:
            defense = fit(setting, method, report)
        except ValueError as error:
            told_why = {"failed": str(error)}
            return Measured(method.name, method.family, budget_of(_plain(method)), told_why)
        fit_seconds = perf_counter() - started
        report(1.0)
        answers = _Answers.of(setting, [defense])
        adaptive = _attacked(setting, answers, tick)
        denoised = _denoised(setting, networks, answers)
        tick()
        return _measured(setting, method, answers, adaptive, denoised, 0, fit_seconds)


@dataclass(frozen=True)
class _Answers:
    """What E systems answered: to the auxiliary rows [E, n, K] and to the victims [E, M, K]; seconds a row."""

    defenses: list[Served]
    queries: Tensor
    served: Tensor
    seconds: list[float]

    @classmethod
    def of(cls, setting: Setting, defenses: list[Served]) -> _Answers:
        asked = torch.cat([setting.auxiliary.outputs, setting.victims.outputs])
        answered = [time_per_row(defense, asked) for defense in defenses]
        everyone = torch.stack([answer.float() for answer, _ in answered])
        queries, served = everyone.split([len(setting.auxiliary), len(setting.victims)], dim=1)
        return cls(defenses, queries, served, [took for _, took in answered])


def _silent(share: float) -> None:
    """Reports nothing."""


def _plain(method: Method) -> dict[str, Any]:
    return {"options": dict(method.options)}


def _role(setting: Setting, party: Party) -> Role:
    """As the adversaries take them; they look at no labels."""
    none = torch.zeros(len(party), dtype=torch.int64)
    return Role(setting.space.encode(party.inputs), none, none)


def _attacked(setting: Setting, answers: _Answers, tick: Tick) -> Attack:
    return attack(
        setting.adversary,
        answers.queries,
        _role(setting, setting.auxiliary),
        answers.served,
        _role(setting, setting.victims),
        seed=derive_seed(setting.seed, "adversary"),
        span=_ANY,
        tick=tick,
    )


def _denoised(setting: Setting, networks: Mapping[str, Network], answers: _Answers) -> Attack:
    return attack_denoised(
        setting.adversary,
        Attack({}, {}, {}, dict(networks)),
        0,
        answers.queries,
        _role(setting, setting.auxiliary),
        answers.served,
        _role(setting, setting.victims),
        seed=derive_seed(setting.seed, "denoiser"),
        clean=setting.auxiliary.outputs,
    )


def _measured(
    setting: Setting,
    method: Method,
    answers: _Answers,
    adaptive: Attack,
    denoised: Attack,
    system: int,
    fit_seconds: float = 0.0,
) -> Measured:
    """What the adversaries made of one system, and what its answers cost."""
    true = setting.victims.inputs
    # Errors are those of inputs: what components leave out counts.
    errors, best, least = [], None, float("inf")
    variants = [*adaptive.reconstructions, *denoised.reconstructions]
    for name in variants:
        attacked = adaptive if name in adaptive.reconstructions else denoised
        made = setting.space.decode(attacked.reconstructions[name][system])
        errors.append(row_errors(made, true))
        if name in adaptive.reconstructions and float(errors[-1].mean()) < least:
            best, least = made, float(errors[-1].mean())
    assert best is not None
    bare, served = setting.victims.outputs, answers.served[system]
    used = utility(bare, served, bare.argmax(1))
    defense = answers.defenses[system]
    held_out = {
        name: float(attacked.held_out[name][system])
        for attacked in (adaptive, denoised)
        for name in attacked.held_out
    }
    numbers = {
        "held_out": held_out,
        "refit": adaptive.refit[system],
        "quality": judge(setting.described, best, true, setting.auxiliary.inputs),
        "utility": {name: used[name] for name in _UTILITY}
        | {"repeats": repeats(defense, bare, served)},
        "cost": {
            "fit_seconds": fit_seconds,
            "microseconds_per_row": answers.seconds[system] * 1e6,
        },
        "certificate": certificate(setting, defense, answers.queries[system], served),
        "options": dict(method.options),
        "kept": kept(method, defense),
    }
    return Measured(
        method.name,
        method.family,
        budget_of(_plain(method)),
        numbers,
        tuple(variants),
        len(denoised.reconstructions),
        torch.stack(errors).numpy(),
        best[: setting.shown].numpy(),
        saved(defense),
    )
