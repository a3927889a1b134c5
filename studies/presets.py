"""Compare the defenses at equal realised mean l1: what `make study` runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from mipoison.defenses.lpa.candidates import KINDS
from mipoison.eval.configuration import Configuration
from mipoison.eval.methods import Method
from mipoison.eval.presets import (
    BASELINES,
    BUDGETS,
    DEMO,
    FACES,
    LABEL_ONLY,
    LFW,
    MNIST,
    NONE,
    OBJECTIVES,
    STANDARD,
    SWEPT,
    compared_at,
    lfp,
    of_budget,
    rounding,
    swept,
)

FEW = ("laplace", "high_confidence", "contract")
# Objectives that are compared at one budget, where a study has none of them.
_SELDOM = ("decoy", "ascent", "alignment", "alignment-full", "direction", "cutoff")
# What a confident classifier's vectors tell beyond the label is told by far smaller changes: faces' softened vectors
# move by .8 to become the label alone, confident ones by .06.
_SMALL = (0.003, 0.01, 0.03, 0.06)
# What the default fits.
_DEFAULT = ("auto", "equilibrium")
_SOFTENED = compared_at(BUDGETS, OBJECTIVES, BASELINES)
# Where both kinds of vectors are served.
_BOTH = compared_at((0.03, 0.1), ("auto", "generator"), ("laplace", "high_confidence", "contract"))
# (What "auto" keeps for softened vectors is the equilibrium.)
_CONFIDENT = compared_at(_SMALL, ("auto", "equilibrium", "generator"), BASELINES)

MNIST_SOFTENED = replace(MNIST, temperatures=(4.0,), methods=_SOFTENED, checked_methods=("none",))
MNIST_CONFIDENT = replace(MNIST, temperatures=(1.0,), methods=_CONFIDENT, checked_methods=("none",))
FASHION = replace(
    MNIST, dataset="fashion", temperatures=(1.0, 4.0), methods=_BOTH, checked_methods=("none",)
)
FACES_SOFTENED = replace(FACES, methods=_SOFTENED, checked_methods=("none",))
FACES_CONFIDENT = replace(FACES, temperatures=(1.0,), methods=_CONFIDENT, checked_methods=("none",))

# Other losses, and a second kind of adversary, which learns pixels: do they rank the defenses alike?
DECODER = replace(
    DEMO,
    temperatures=(3.0,),
    methods=compared_at((0.1,), OBJECTIVES, (*FEW, "purifier")),
    checked_methods=("none",),
    adversary=replace(
        DEMO.adversary, losses=("l1", "mse+ssim"), decoders=("raw", "raw+log", "top-5")
    ),
)


def _rest(study: Configuration, budget: float) -> Configuration:
    """The defenses that a study leaves out, in its situation, at one budget."""
    compared = [NONE, LABEL_ONLY, rounding(3), rounding(4)]
    compared += [lfp(rate) for rate in (0.01, 0.025, 0.05, 0.1)]
    known = {method.family for method in study.methods}
    seldom = [of_budget(objective, budget) for objective in _SELDOM]
    compared += [method for method in seldom if method.family not in known]
    compared += [swept(kind, budget) for kind in SWEPT if kind not in BASELINES]
    return replace(study, methods=tuple(compared), checked_methods=("none",), worst_case_methods=())


def _asked_again(study: Configuration) -> Configuration:
    """The default in a study's situation, under repeated queries, other keys and the leaked key."""
    default = of_budget("auto", 0.1)
    return replace(study, methods=(NONE, LABEL_ONLY, default), worst_case_methods=(default.name,))


def _default_again(study: Configuration, *others: str) -> Configuration:
    """What `LPA.fit` does by default in a study's situation: after a change of it, the rest need not be run again.

    Args:
        study: in whose situation.
        others: further objectives that have changed.
    """
    asked = (*_DEFAULT, *others)
    changed = tuple(m for m in study.methods if dict(m.options).get("objective") in asked)
    checked, worst = (
        tuple(name for name in names if name in ("none", *(m.name for m in changed)))
        for names in (study.checked_methods, study.worst_case_methods)
    )
    return replace(
        study,
        methods=(NONE, LABEL_ONLY, *changed),
        checked_methods=checked,
        worst_case_methods=worst,
    )


# A few defenses where the situation is another one.
_AT_A_TENTH = compared_at((0.1,), OBJECTIVES, FEW)

# Yang et al.'s classifier and decoder, both at a width that a CPU trains, with the preprocessing that they published.
YANG = replace(
    MNIST,
    temperatures=(4.0,),
    target="yang",
    methods=_AT_A_TENTH,
    checked_methods=("none",),
    adversary=replace(MNIST.adversary, decoders=("raw+log", "top-10")),
)

# Auxiliary data whose classes the target never saw; with a decoder, since these images are large enough for one.
DISJOINT_CLASSES = replace(
    FACES,
    temperatures=(4.0,),
    auxiliary="other",
    methods=_AT_A_TENTH,
    checked_methods=("none",),
    adversary=replace(FACES.adversary, decoders=("raw+log",)),
)


def _retrained(way: str) -> Configuration:
    """Targets that were trained to leak less, served bare and defended."""
    return replace(
        DEMO,
        target=f"mlp+{way}",
        temperatures=(3.0,),
        methods=_AT_A_TENTH,
        checked_methods=("none",),
    )


def _changed(name: str, **options: float | str) -> Method:
    """The equilibrium with one rule changed."""
    return Method(name, name, "ablation", (("budget", 0.1), *options.items()))


ABLATION = replace(
    DEMO,
    temperatures=(3.0,),
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


# Labeled Faces in the Wild: `studies/run.py --lfw FOLDER` says where it is. Few defenses, since a cell of a thousand
# classes takes long: in all, two hours of two cores.
def _of_faces(budgets: tuple[float, ...]) -> tuple[Method, ...]:
    compared = [NONE, LABEL_ONLY, rounding(2), of_budget("generator", 0.1)]
    for budget in budgets:
        compared += [of_budget("auto", budget)]
        compared += [swept(kind, budget) for kind in ("laplace", "high_confidence")]
    return tuple(compared)


LFW_IMAGENET = replace(LFW, methods=_of_faces((0.1, 0.2)))
LFW_SOFTENED = replace(LFW, temperatures=(2.0,), methods=_of_faces((0.1, 0.2)))
LFW_IMAGENET_48 = replace(LFW, dataset="lfw-48:lfw", methods=_of_faces((0.1,)))
LFW_IDENTITY = replace(
    LFW, target="cnn", target_epochs=15, temperatures=(1.0, 4.0), methods=_of_faces((0.03, 0.1))
)

STUDIES: dict[str, Configuration] = {
    "standard": STANDARD,
    "study-mnist": MNIST_SOFTENED,
    "study-mnist-confident": MNIST_CONFIDENT,
    "study-fashion": FASHION,
    "study-faces": FACES_SOFTENED,
    "study-faces-confident": FACES_CONFIDENT,
    "more-digits": _rest(STANDARD, 0.1),
    "more-mnist": _rest(MNIST_SOFTENED, 0.1),
    "more-mnist-confident": _rest(MNIST_CONFIDENT, 0.03),
    "more-faces": _rest(FACES_SOFTENED, 0.1),
    "more-faces-confident": _rest(FACES_CONFIDENT, 0.03),
    "again-digits": _default_again(STANDARD),
    "again-mnist": _default_again(MNIST_SOFTENED),
    "again-mnist-confident": _default_again(MNIST_CONFIDENT),
    "again-faces": _default_again(FACES_SOFTENED),
    "again-faces-confident": _default_again(FACES_CONFIDENT),
    "asked-mnist": _asked_again(MNIST_SOFTENED),
    "asked-faces": _asked_again(FACES_SOFTENED),
    "study-decoder": DECODER,
    "study-yang": YANG,
    "study-strangers": DISJOINT_CLASSES,
    "study-nls": _retrained("nls"),
    "study-vib": _retrained("vib"),
    "study-bido": _retrained("bido"),
    "study-ablation": ABLATION,
    "study-lfw-imagenet": LFW_IMAGENET,
    "again-lfw-imagenet": _default_again(LFW_IMAGENET, "generator"),
    "study-lfw-imagenet-softened": LFW_SOFTENED,
    "again-lfw-imagenet-softened": _default_again(LFW_SOFTENED, "generator"),
    "study-lfw-imagenet-48": LFW_IMAGENET_48,
    "study-lfw-identity": LFW_IDENTITY,
    "again-lfw-identity": _default_again(LFW_IDENTITY, "generator"),
}


def in_folder(study: Configuration, faces: Path) -> Configuration:
    """A study of Labeled Faces in the Wild with its files in that folder; every other one as it is."""
    kind, _, _ = study.dataset.partition(":")
    return replace(study, dataset=f"{kind}:{faces}") if kind in ("lfw", "lfw-48") else study
