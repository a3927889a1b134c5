"""Runs what a meter reads of traffic that a defense was not fitted for, and writes `studies/numbers/drift.csv`.

    python studies/drift.py [--jobs JOBS]
    python studies/drift.py --table    # the table of docs/guides/watch-the-traffic.md, from these numbers

Digits at T = 1 and 3, budget 0.1, seeds 0-2. The images that neither the classifier nor the defense was fitted on come
once as they are, inverted, blurred (the mean of 3 x 3 pixels, twice) and as uniform noise in their place, 100 a call,
each time past a new meter. A quarter of an hour on one core; part of `make study`.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, Final

import torch
from csv_rows import Row, read_rows, write_rows
from joblib import Parallel, delayed
from kept import NUMBERS
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

import mipoison as mp
from mipoison.eval.data.splits import joined
from mipoison.eval.presets import STANDARD, of_budget
from mipoison.eval.run.cell import prepare
from mipoison.eval.run.environment import describe_environment, one_thread
from mipoison.eval.targets.training import serve

FILE: Final = NUMBERS / "drift.csv"
OBJECTIVES: Final = ("equilibrium", "generator")
BUDGET: Final = 0.1
TEMPERATURES: Final = (1.0, 3.0)
WINDOW: Final = 1000
_CALL: Final = 100


def altered(inputs: Tensor, shape: tuple[int, int], seed: int) -> dict[str, Tensor]:
    """Images [n, D] as they are and changed, by name."""
    blurred = inputs.view(-1, 1, *shape)
    for _ in range(2):
        blurred = avg_pool2d(pad(blurred, (1, 1, 1, 1), mode="replicate"), 3, stride=1)
    generator = torch.Generator().manual_seed(seed)
    return {
        "as fitted": inputs,
        "inverted": 1 - inputs,
        "blurred": blurred.flatten(1),
        "noise": torch.rand(inputs.shape, generator=generator),
    }


def read(defense: Any, outputs: Tensor) -> dict[str, Any]:
    """What a new meter says of the outputs, and after how many rows it alarms first."""
    meter = mp.Meter(defense, window=WINDOW)
    alarmed: int | str = ""
    for some in outputs.split(_CALL):
        meter(some)
        if alarmed == "" and meter.read().alarms:
            alarmed = meter.read().rows
    seen = meter.read()
    now = seen.since_start
    assert now.distance is not None
    return {
        "rows": now.rows,
        "l1": now.l1.mean,
        "unchanged": now.share_unchanged,
        "distance": now.distance.p50,
        "far": now.share_far,
        "alarm_after": alarmed,
    }


def trial(objective: str, temperature: float, seed: int) -> list[Row]:
    """One fit: what it expects, and what a meter reads of each kind of traffic."""
    with one_thread():
        setup = prepare(STANDARD, seed)
        parts = setup.parts
        own = setup.served(parts.defender, temperature=temperature)
        defense = setup.defense(of_budget(objective, BUDGET), own)
        assert isinstance(defense, mp.LPA)
        told = defense.expected
        assert told is not None
        given = {"objective": objective, "temperature": temperature, "seed": seed}
        expects = {
            "rows": told.rows,
            "l1": told.l1,
            "unchanged": told.unchanged,
            "distance": told.distance,
            "far": 0.1,
            "alarm_after": "",
        }
        made = [given | {"traffic": "expected"} | expects]
        fresh = joined(parts.auxiliary, parts.victims).inputs
        order = torch.randperm(len(fresh), generator=torch.Generator().manual_seed(seed))
        for name, inputs in altered(fresh[order], parts.image_shape, seed).items():
            outputs = serve(setup.model, inputs, temperature=temperature)
            made.append(given | {"traffic": name} | read(defense, outputs))
    return made


def table() -> str:
    """The kept numbers of the first objective in Markdown, means over seeds."""
    kept = [row for row in read_rows(FILE) if row["objective"] == OBJECTIVES[0]]
    lines = [
        "| T | traffic | l1 | unchanged | distance | far | alarms |",
        "|---|---|---|---|---|---|---|",
    ]
    for temperature in dict.fromkeys(row["temperature"] for row in kept):
        own = [row for row in kept if row["temperature"] == temperature]
        for traffic in dict.fromkeys(row["traffic"] for row in own):
            some = [row for row in own if row["traffic"] == traffic]
            means = {
                name: sum(float(row[name]) for row in some) / len(some)
                for name in ("l1", "unchanged", "distance", "far")
            }
            alarms = sum(row["alarm_after"] != "" for row in some)
            lines.append(
                f"| {temperature} | {traffic} | {means['l1']:.3f} | {means['unchanged']:.0%} "
                f"| {means['distance']:.2f} | {means['far']:.0%} "
                f"| {'' if traffic == 'expected' else f'{alarms} of {len(some)}'} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--table", action="store_true", help="print the kept numbers")
    given = parser.parse_args()
    if given.table:
        print(table())
        raise SystemExit
    jobs = given.jobs
    call: Callable[..., Any] = delayed(trial)
    trials = [(o, t, s) for o in OBJECTIVES for t in TEMPERATURES for s in STANDARD.seeds]
    found = Parallel(n_jobs=jobs)(call(*one) for one in trials)
    write_rows(FILE, [row for rows in found for row in rows], describe_environment(jobs=jobs))
