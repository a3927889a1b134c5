"""Compare the defenses at equal realised mean l1: what `make study-defenses` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from mipoison.defenses.lpa.candidates import KINDS
from mipoison.eval.configuration import Configuration
from mipoison.eval.methods import Method
from mipoison.eval.presets import DEMO, FACES, LABEL_ONLY, MNIST, NONE, of_budget, rounding

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
}
FEW = ("swap", "contract", "laplace")


def swept(kind: str, budget: float) -> Method:
    """A baseline whose moves are `budget` long on average."""
    return Method(f"{kind}-{budget:g}", SWEPT[kind], kind, (("mean_l1", budget),))


def methods(
    budgets: tuple[float, ...], objectives: tuple[str, ...], baselines: tuple[str, ...]
) -> tuple[Method, ...]:
    """Every objective and baseline at every budget, beside those that have no budget."""
    compared = [NONE, LABEL_ONLY, rounding(1), rounding(2)]
    for budget in budgets:
        compared += [of_budget(objective, budget) for objective in objectives]
        compared += [swept(kind, budget) for kind in baselines]
    return tuple(compared)


DIGITS = replace(
    DEMO,
    temperatures=(3.0,),
    methods=methods(
        (0.05, 0.1, 0.2),
        ("equilibrium", "generator", "decoy", "ascent", "alignment"),
        tuple(SWEPT),
    ),
    checked_methods=("none", "lpa-equilibrium-l1-0.1"),
)

MNIST_SOFTENED = replace(
    MNIST,
    temperatures=(4.0,),
    methods=methods((0.05, 0.1), ("equilibrium", "generator", "decoy"), FEW),
    checked_methods=("none",),
)

MNIST_CONFIDENT = replace(
    MNIST,
    temperatures=(1.0,),
    methods=methods((0.003, 0.03), ("equilibrium", "generator", "decoy"), FEW),
    checked_methods=("none",),
)

FACES_SOFTENED = replace(
    FACES,
    methods=methods((0.05, 0.1), ("equilibrium", "generator", "decoy"), FEW),
    checked_methods=("none",),
)

# A second kind of adversary, which learns pixels: does it rank the defenses alike?
DECODER = replace(
    DIGITS,
    methods=methods(
        (0.1,), ("equilibrium", "generator", "decoy", "ascent", "alignment"), (*FEW, "purifier")
    ),
    checked_methods=("none",),
    adversary=replace(DEMO.adversary, decoders=("raw", "raw+log")),
)


def _changed(name: str, **options: float | str) -> Method:
    """The equilibrium with one rule changed."""
    return Method(name, name, "ablation", (("budget", 0.1), *options.items()))


ABLATION = replace(
    DIGITS,
    methods=(
        NONE,
        LABEL_ONLY,
        _changed("as it is"),
        *(_changed(f"{n} rounds", rounds=n) for n in (1, 3, 6, 20)),
        *(_changed(f"memory of {n}", memory=n) for n in (1, 3)),
        *(_changed(f"without {kind}", without=kind) for kind in KINDS),
        _changed("squared error", error="squared"),
    ),
    checked_methods=("none",),
)

# Every defense at four strengths, and the adversaries' second loss: what a comparison should show at least.
_STRENGTHS = (0.025, 0.05, 0.1, 0.2)
STANDARD = replace(
    DEMO,
    temperatures=(1.0, 3.0),
    methods=methods(
        _STRENGTHS, ("equilibrium", "generator", "decoy", "ascent", "alignment"), tuple(SWEPT)
    ),
    adversary=replace(DEMO.adversary, losses=("l1",)),
)

# The same on larger images, a larger target, and decoders of three kinds.
FULL = replace(
    STANDARD,
    dataset="mnist",
    target="yang",
    target_epochs=10,
    temperatures=(1.0, 4.0),
    adversary=replace(
        MNIST.adversary, losses=("l1",), decoders=("raw", "raw+log", "top-10"), decoder_epochs=20
    ),
)

STUDIES: dict[str, Configuration] = {
    "defenses-digits": DIGITS,
    "defenses-mnist": MNIST_SOFTENED,
    "defenses-mnist-confident": MNIST_CONFIDENT,
    "defenses-faces": FACES_SOFTENED,
    "defenses-decoder": DECODER,
    "defenses-ablation": ABLATION,
    "standard": STANDARD,
    "full": FULL,
}
