"""The smallest audit that has all parts, run once for all tests."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from mipoison.audit.evidence import Column, Evidence, Skipped
from mipoison.audit.measure.plan import Preset
from mipoison.audit.measure.run import Work, run
from mipoison.audit.measure.setting import Setting
from mipoison.audit.measure.systems import Measured
from mipoison.audit.report.record import Asked, record
from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.presets import codebook, rounding, swept

SHORT = AdversarySettings(width=8, epochs=1, wide_width=8, wide_epochs=1, neighbours=(5,))
TINY = Preset({"defender": 80, "auxiliary": 160, "victims": 80}, 40, SHORT, shown=4)
METHODS = (codebook(), rounding(1), swept("high_confidence", 0.1))


def images(rows: int = 400, *, channels: int = 1, leaking: bool = True) -> Evidence:
    """Images whose gray is in their vectors, or has nothing to do with them."""
    generator = torch.Generator().manual_seed(100)
    p = torch.rand(rows, 4, generator=generator).square() + 0.01
    p = p / p.sum(1, keepdim=True)
    told = p if leaking else torch.rand(rows, 4, generator=generator)
    pixels = told.repeat_interleave(4 * channels, dim=1)
    return Evidence(
        "images",
        pixels,
        p.double(),
        torch.arange(rows),
        image_shape=(4, 4, channels),
        classes=("cat", "dog", "cow", "<hen>"),
        skipped=tuple(Skipped(f"photo-{n}.png", "no <vector>") for n in range(23)),
        source="photographs",
    )


def people(rows: int = 400) -> Evidence:
    """A table whose category and number are in the vectors."""
    made = images(rows)
    color = torch.nn.functional.one_hot((made.outputs[:, 0] > 0.25).long(), 2).float()
    number = made.outputs[:, 1:2].float()
    number = (number - number.mean()) / number.std()
    columns = (Column("color", ("red", "green"), 0), Column("age", (), 2, 40.0, 12.0))
    inputs = torch.cat([color, number], dim=1)
    return replace(made, kind="table", inputs=inputs, image_shape=None, columns=columns)


@dataclass(frozen=True)
class Audited:
    """An audit: what it looked at, what it measured, and what audit.json holds."""

    evidence: Evidence
    setting: Setting
    measured: dict[str, Measured]
    content: dict[str, Any]


@cache
def audited(kind: str = "images", *, leaking: bool = True) -> Audited:
    """An audit of images or people; not to be changed."""
    evidence = people() if kind == "table" else images(leaking=leaking)
    with tempfile.TemporaryDirectory() as folder:
        seeds = run(Work(evidence, TINY, METHODS, (100,), Path(folder)), jobs=1)
    setting, measured = seeds[0]
    content = record(evidence, Asked("quick", (100,), (0.1,), 1, 1.0), seeds)
    return Audited(evidence, setting, measured, content | {"shown": TINY.shown})
