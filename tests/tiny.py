"""The smallest experiment that has all parts."""

import json
from dataclasses import replace

from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.presets import QUICK

_SHORT = AdversarySettings(
    width=16, epochs=2, wide_width=16, wide_epochs=2, neighbours=(5,), held_out=100
)
# Baselines that need no fitting, with adversaries that hardly train.
TINY = replace(
    QUICK, seeds=(100,), temperatures=(1.5, 3.0), target_epochs=3, adversary=_SHORT
).with_methods(("rounding-1",))


def untimed(out):
    """The cells of a run, without what a clock said."""
    cells = json.loads((out / "results.json").read_text())["cells"]
    for cell in cells:
        del cell["seconds"], cell["environment"]
        for defense in cell["defenses"].values():
            del defense["cost"]
    return cells
