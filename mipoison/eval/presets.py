"""The experiments that can be run by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.configuration import Configuration
from mipoison.eval.data.bundled import ORL_COPIES
from mipoison.eval.methods import Method

# The baselines that a budget can be set for, by how reports call them.
SWEPT: Mapping[str, str] = {
    "swap": "Swap",
    "contract": "Contract",
    "laplace": "Laplace noise",
    "purifier": "Purifier",
    "reverse_sigmoid": "Reverse sigmoid",
    "one_parameter": "One-parameter DP",
    "flatten": "Temperature",
    "top_k": "Top-k",
    "gaussian": "Gaussian noise",
    "high_confidence": "High confidence",
    "modelguard_w": "ModelGuard-W",
    "modelguard_s": "ModelGuard-S",
}
NONE = Method("none", "none", "none")
LABEL_ONLY = Method("label-only", "label-only", "label_only")


def rounding(decimals: int) -> Method:
    """Rounding to so many decimals."""
    return Method(f"rounding-{decimals}", "rounding", "rounding", (("decimals", decimals),))


def _lpa(objective: str, epsilon: float) -> Method:
    options = (("objective", objective), ("epsilon", epsilon))
    return Method(f"lpa-{objective}-{epsilon:g}", f"LPA {objective}", "lpa", options)


def of_budget(objective: str, budget: float) -> Method:
    """LPA whose moves are `budget` long on average."""
    options = (("objective", objective), ("budget", budget))
    return Method(f"lpa-{objective}-l1-{budget:g}", f"LPA {objective}", "lpa", options)


def codebook(certified: float | None = None) -> Method:
    """The codebook of least moves that certifies a gain; None: one codeword a label."""
    options: tuple[tuple[str, float | str], ...] = (("objective", "codebook"),)
    if certified is None:
        return Method("lpa-codebook", "LPA codebook", "lpa", options)
    name = f"lpa-codebook-certified-{certified:g}"
    return Method(name, "LPA codebook", "lpa", (*options, ("certified", certified)))


def lfp(rate: float) -> Method:
    """LFP that flips this share of the rows."""
    options = (("rate", rate), ("rows", "margin"), ("targets", "surrogate"))
    return Method(f"lfp-{rate:g}", "LFP", "lfp", options, label_preserving=False)


def outside(name: str) -> Method:
    """A defense that is not ours, "module:name"; see `mipoison.eval.outside`."""
    return Method(name, name, "outside", (("callable", name),))


def swept(kind: str, budget: float) -> Method:
    """A baseline whose moves are `budget` long on average."""
    return Method(f"{kind}-{budget:g}", SWEPT[kind], kind, (("mean_l1", budget),))


def compared_at(
    budgets: tuple[float, ...], objectives: tuple[str, ...], baselines: tuple[str, ...]
) -> tuple[Method, ...]:
    """Every objective and baseline at every budget, beside those that have no budget."""
    compared = [NONE, LABEL_ONLY, rounding(1), rounding(2)]
    for budget in budgets:
        compared += [of_budget(objective, budget) for objective in objectives]
        compared += [swept(kind, budget) for kind in baselines]
    return tuple(compared)


DEMO = Configuration(
    seeds=(0, 1, 2),
    temperatures=(1.0, 3.0),
    methods=(
        NONE,
        LABEL_ONLY,
        rounding(1),
        rounding(2),
        *(
            of(kind, budget)
            for budget in (0.05, 0.1, 0.2)
            for of, kind in (
                (of_budget, "auto"),
                (swept, "laplace"),
                (swept, "high_confidence"),
            )
        ),
        _lpa("decoy", 0.2),
        codebook(certified=0.7),
        codebook(),
        lfp(0.05),
    ),
    checked_methods=("none", "lpa-auto-l1-0.1"),
    # Recovery takes more than a quarter of a cell's time, and was the strongest against none of five defenses that were
    # tried (digits, T = 3, seed 100).
    adversary=AdversarySettings(recovery_draws=0),
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
    adversary=AdversarySettings(held_out=15 * ORL_COPIES["auxiliary"]),
)

# Nobody here trained the classifier, and the adversary knows no person that the victims are: the protocol of the
# literature. The folder is named by --dataset lfw:FOLDER.
LFW = Configuration(
    dataset="lfw:lfw",
    target="stored",
    seeds=(0, 1, 2),
    temperatures=(1.0,),
    methods=(
        NONE,
        LABEL_ONLY,
        rounding(2),
        swept("laplace", 0.1),
        swept("high_confidence", 0.1),
        of_budget("equilibrium", 0.1),
        of_budget("generator", 0.1),
        codebook(),
    ),
    # The last auxiliary rows are of people whom the others do not show.
    adversary=AdversarySettings(held_out=500),
)

# Small enough for a glance or a test: the numbers mean little.
QUICK = Configuration(
    seeds=(100,),
    temperatures=(3.0,),
    methods=(NONE, LABEL_ONLY, rounding(1), _lpa("decoy", 0.2)),
    checked_methods=("none",),
    adversary=AdversarySettings(epochs=8, wide_epochs=8, neighbours=(10,)),
)

# What the objectives and the baselines are compared at: the mean l1. studies/presets.py compares all others at one of
# these budgets.
BUDGETS = (0.05, 0.1, 0.2)
OBJECTIVES = ("auto", "generator", "decoy")
BASELINES = ("laplace", "high_confidence", "top_k", "contract", "modelguard_w", "modelguard_s")

# With adversaries who ask again or know more.
STANDARD = replace(
    DEMO,
    methods=compared_at(BUDGETS, OBJECTIVES, BASELINES),
    checked_methods=("none", "lpa-auto-l1-0.1"),
    worst_case_methods=("lpa-auto-l1-0.1", "laplace-0.1"),
    adversary=AdversarySettings(),
)

PRESETS = {
    "demo": DEMO,
    "quick": QUICK,
    "mnist": MNIST,
    "faces": FACES,
    "lfw": LFW,
    "standard": STANDARD,
}
