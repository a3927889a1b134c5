"""Estimate how long an audit takes at most, by beginning its longest parts and stopping them.

Networks that converge before their last epoch end earlier.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Final

from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import fit
from mipoison.eval.adversaries.attack import adaptive_networks, standard
from mipoison.eval.adversaries.mlp import MLP
from mipoison.eval.methods import Method
from mipoison.eval.run.environment import one_thread

# Seconds that a part is watched, and how often a fit reports at least.
_SECONDS: Final = 2.0
_REPORTS: Final = 3
# What the rest takes beside networks and fits: answers, look-ups, certificates, starting processes.
_BESIDE: Final = 1.25
_START: Final = 6.0


class _Enough(Exception):
    """Ends what was begun."""


def seconds(setting: Setting, defenses: Sequence[Method], *, seeds: int, jobs: int) -> float:
    """About how many seconds an audit takes.

    Args:
        setting: the rows of one seed.
        defenses: what is measured beside the references.
        seeds: how many seeds.
        jobs: processes side by side.
    """
    with one_thread():
        attack = _attack(setting)
        fits = sum(_fits(setting, defenses))
    alone = 2 * attack
    together = (len(defenses) * attack + fits) / jobs
    return seeds * (_START + _BESIDE * (alone + together))


def _attack(setting: Setting) -> float:
    """Seconds to attack one system."""
    settings = setting.adversary
    networks = [standard(settings, seed=0), *adaptive_networks(settings, seed=0).values()]
    took = [_epoch(setting, one) * one.epochs for one in networks if isinstance(one, MLP)]
    # Each denoiser trains a network on raw+log, which is as wide as the standard one.
    return sum(took) + len(settings.readers) * took[0] * 2


def _epoch(setting: Setting, network: MLP) -> float:
    """Seconds of one epoch."""
    started: list[float] = [time.perf_counter()]

    def ended() -> None:
        started.append(time.perf_counter())
        if len(started) == 3 or started[-1] - started[0] > _SECONDS:
            raise _Enough

    network.on_epoch = ended
    kept = len(setting.auxiliary) - setting.adversary.held_out
    x = setting.space.encode(setting.auxiliary.inputs[:kept])
    _until(lambda: network.fit(setting.auxiliary.outputs[:kept], x))
    # (The first epoch pays for what is set up once.)
    return started[-1] - started[-2]


def _fits(setting: Setting, defenses: Sequence[Method]) -> list[float]:
    """Seconds of every fit: one of each family is begun."""
    families: dict[str, float] = {}
    for method in defenses:
        if method.builder == "lpa" and method.family not in families:
            families[method.family] = _fit(setting, method)
    return [families.get(method.family, 0.0) for method in defenses]


def _fit(setting: Setting, method: Method) -> float:
    """Seconds of one fit, from how fast its reports go on: what comes before the first may take as long."""
    started, told = time.perf_counter(), [(0.0, 0.0)]

    def report(share: float) -> None:
        if share > told[-1][1]:
            told.append((time.perf_counter() - started, share))
        if len(told) > _REPORTS and told[-1][0] > _SECONDS:
            raise _Enough

    _until(lambda: fit(setting, method, report))
    took = time.perf_counter() - started
    (before, first), (now, last) = told[min(1, len(told) - 1)], told[-1]
    if last in (first, 1.0):
        return took
    return took + (1 - last) * (now - before) / (last - first)


def _until(work: Callable[[], object]) -> None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            work()
    except (_Enough, ValueError):
        # (A budget out of reach is told where it is measured.)
        pass
