"""The experiments that can be run by name."""

from __future__ import annotations

from dataclasses import replace

from mipoison.eval.adversaries import AdversarySettings
from mipoison.eval.configuration import Configuration
from mipoison.eval.data import orl
from mipoison.eval.methods import Method

NONE = Method("none", "none", "none")
LABEL_ONLY = Method("label-only", "label-only", "label_only")


def rounding(decimals: int) -> Method:
    """Rounding to so many decimals."""
    return Method(f"rounding-{decimals}", "rounding", "rounding", (("decimals", decimals),))


def _noise(kind: str, mean_l1: float) -> Method:
    family = f"{kind.capitalize()} noise"
    return Method(f"{kind}-{mean_l1:g}", family, kind, (("mean_l1", mean_l1),))


def _lpa(objective: str, epsilon: float) -> Method:
    options = (("objective", objective), ("epsilon", epsilon))
    return Method(f"lpa-{objective}-{epsilon:g}", f"LPA {objective}", "lpa", options)


def of_budget(objective: str, budget: float) -> Method:
    """LPA whose moves are `budget` long on average."""
    options = (("objective", objective), ("budget", budget))
    return Method(f"lpa-{objective}-l1-{budget:g}", f"LPA {objective}", "lpa", options)


def lfp(rate: float) -> Method:
    """LFP that flips this share of the rows."""
    options = (("rate", rate), ("rows", "margin"), ("targets", "surrogate"))
    return Method(f"lfp-{rate:g}", "LFP", "lfp", options, label_preserving=False)


def outside(name: str) -> Method:
    """A defense that is not ours, "module:name"; see `mipoison.eval.outside`."""
    return Method(name, name, "outside", (("callable", name),))


DEMO = Configuration(
    seeds=(0, 1, 2),
    temperatures=(1.0, 3.0),
    methods=(
        NONE,
        LABEL_ONLY,
        rounding(1),
        rounding(2),
        _noise("laplace", 0.2),
        _noise("gaussian", 0.2),
        of_budget("equilibrium", 0.05),
        of_budget("equilibrium", 0.1),
        of_budget("equilibrium", 0.2),
        _lpa("decoy", 0.1),
        _lpa("decoy", 0.2),
        _lpa("ascent", 0.2),
        lfp(0.05),
    ),
    checked_methods=("none", "lpa-equilibrium-l1-0.1"),
)

MNIST = replace(
    DEMO,
    dataset="mnist",
    target="cnn",
    target_epochs=10,
    temperatures=(1.0, 4.0),
    adversary=AdversarySettings(held_out=200),
)

FACES = replace(
    DEMO,
    dataset="orl",
    target="cnn",
    target_epochs=15,
    temperatures=(4.0,),
    # Copies of whole photos: what is kept back is unlike anything that was trained on.
    adversary=AdversarySettings(held_out=15 * orl.COPIES["auxiliary"]),
)

# Small enough for a glance or a test: the numbers mean little.
QUICK = Configuration(
    seeds=(100,),
    temperatures=(3.0,),
    methods=(NONE, LABEL_ONLY, rounding(1), _lpa("decoy", 0.2)),
    checked_methods=("none",),
    adversary=AdversarySettings(epochs=8, wide_epochs=8, neighbours=(10,)),
)

PRESETS = {"demo": DEMO, "quick": QUICK, "mnist": MNIST, "faces": FACES}
