"""Run one cell of an experiment: one seed at one temperature, every defense, every adversary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from time import perf_counter
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mipoison.eval.attack import STANDARD, Attack, attack, attack_denoised, attack_trained_clean
from mipoison.eval.configuration import Configuration
from mipoison.eval.data import Split
from mipoison.eval.device import device_name, repeatable
from mipoison.eval.evaluator import Evaluator
from mipoison.eval.methods import Defense, time_per_row
from mipoison.eval.metrics import gain, psnr, row_errors, row_gain, ssim
from mipoison.eval.seeding import derive_seed
from mipoison.eval.stage import Stage
from mipoison.eval.targets import accuracy, serve
from mipoison.eval.threads import one_thread
from mipoison.eval.utility import utility
from mipoison.eval.worst_cases import WorstCases, worst_cases


@dataclass(frozen=True)
class Cell:
    """What one cell yields.

    Attributes:
        numbers: plain JSON values.
        images: arrays for the picture of the victims: "originals" ``[V, H, W]``, "label only" and
            one entry a defense, the strongest adversary's reconstruction of the same victims.
    """

    numbers: dict[str, Any]
    images: dict[str, npt.NDArray[np.float32]]


def steps_of(configuration: Configuration) -> int:
    """Returns how often `run_cell` calls ``tick``."""
    settings = configuration.adversary
    epochs = settings.epochs + (2 + len(settings.losses)) * settings.wide_epochs
    epochs += len(settings.decoders) * settings.decoder_epochs
    return 2 + len(configuration.methods) + len(configuration.worst_case_methods) + 3 * epochs


def run_cell(
    configuration: Configuration,
    seed: int,
    temperature: float,
    *,
    tick: Callable[[], None] = lambda: None,
) -> Cell:
    """Trains the target, fits the defenses, attacks them and measures, on one thread.

    Args:
        configuration: the experiment.
        seed: of split, target, defenses and adversaries, each by a stream of its own.
        temperature: softmax temperature that the target is served at.
        tick: called after each piece of work, for progress bars.

    Returns:
        The cell's numbers and pictures; the same on the same machine at every run, but for times.
    """
    with one_thread(), repeatable():
        return _run(configuration, seed, temperature, tick)


def _run(
    configuration: Configuration, seed: int, temperature: float, tick: Callable[[], None]
) -> Cell:
    started = perf_counter()
    settings = configuration.adversary
    stage = Stage.of(configuration, seed)
    parts, model = stage.parts, stage.model
    tick()
    queries, served, costs, deployed = _defend(configuration, stage, temperature, tick)
    adversary_seed = derive_seed(seed, "adversary")
    names = [method.name for method in configuration.methods]
    bare = names.index("none")
    adaptive = attack(
        settings,
        queries,
        parts.auxiliary,
        served,
        parts.victims,
        seed=adversary_seed,
        image_shape=parts.image_shape,
        tick=tick,
    )
    clean = attack_trained_clean(adaptive, bare, served, parts.victims)
    denoised = attack_denoised(
        settings,
        adaptive,
        bare,
        queries,
        parts.auxiliary,
        served,
        parts.victims,
        seed=derive_seed(seed, "denoiser"),
    )
    tick()
    checked = [names.index(name) for name in configuration.checked_methods]
    longer = attack(
        settings,
        queries[checked],
        parts.auxiliary,
        served[checked],
        parts.victims,
        seed=adversary_seed,
        stretch=2,
        image_shape=parts.image_shape,
        tick=tick,
    )
    label_only = float(adaptive.errors["label only"][bare].mean())
    evaluator = Evaluator.train(
        parts, target=configuration.target, seed=derive_seed(seed, "evaluator")
    )
    swapped = adaptive.networks[STANDARD].reconstruct(served[bare].expand_as(served))
    defenses: dict[str, Any] = {}
    judge = _Judge(parts, evaluator, bare, label_only)
    for system, name in enumerate(names):
        defenses[name] = {
            "attacks": _score(judge, adaptive, clean, denoised, system),
            "variants": _variants(adaptive, clean, system),
            "utility": utility(served[bare], served[system], parts.victims.labels),
            "cost": costs[name],
            "train_test": {
                "clean_clean": float(adaptive.errors[STANDARD][bare].mean()),
                "clean_defended": float(clean.errors[STANDARD][system].mean()),
                "defended_clean": float(row_errors(swapped[system], parts.victims.inputs).mean()),
                "defended_defended": float(adaptive.errors[STANDARD][system].mean()),
            },
            "curves": {
                variant: {
                    side: [round(epoch[system], 6) for epoch in epochs]
                    for side, epochs in (("train", curve["train"]), ("held_out", curve["held_out"]))
                }
                for variant, curve in adaptive.curves.items()
            },
        }
    asked_again = {}
    for method in configuration.methods:
        if method.name in deployed:
            asked_again[method.name] = worst_cases(
                stage,
                method,
                deployed[method.name],
                temperature=temperature,
                adversary=settings,
                cases=WorstCases(),
            )
            tick()
    numbers = {
        "seed": seed,
        "temperature": temperature,
        "adversaries_on": device_name(),
        "target": {
            "private_accuracy": accuracy(model, parts.private),
            "accuracy": accuracy(model, parts.victims),
            "evaluator_accuracy": evaluator.accuracy,
        },
        "floors": _floors(parts) | {"label_only": label_only},
        "defenses": defenses,
        "doubled_epochs": _doubling(adaptive, longer, checked, names, label_only, bare),
        "worst_cases": asked_again,
        "seconds": perf_counter() - started,
    }
    return Cell(numbers, _pictures(configuration, parts, adaptive, names, bare))


def _defend(
    configuration: Configuration, stage: Stage, temperature: float, tick: Callable[[], None]
) -> tuple[Tensor, Tensor, dict[str, dict[str, float]], dict[str, Defense]]:
    """Returns the defended vectors of auxiliary and victims, each ``[E, n, K]``, costs, and what worst cases ask."""
    parts = stage.parts
    asked = torch.cat([parts.auxiliary.inputs, parts.victims.inputs])
    bare = serve(stage.model, asked, temperature=temperature)
    answers, costs, deployed = [], {}, {}
    for method in configuration.methods:
        started = perf_counter()
        defense = stage.defense(method, temperature=temperature)
        fit_seconds = perf_counter() - started
        answer, row_seconds = time_per_row(defense, bare)
        answers.append(answer)
        if method.name in configuration.worst_case_methods:
            deployed[method.name] = defense
        costs[method.name] = {
            "fit_seconds": fit_seconds,
            "microseconds_per_row": row_seconds * 1e6 if method.builder != "none" else 0.0,
        }
        tick()
    everyone = torch.stack(answers)
    queried = len(parts.auxiliary)
    return everyone[:, :queried], everyone[:, queried:], costs, deployed


@dataclass(frozen=True)
class _Judge:
    """Scores reconstructions of one cell's victims.

    Attributes:
        parts: the data by role.
        evaluator: the independent classifier.
        bare: the undefended system's index.
        label_only: error of the label-only adversary.
    """

    parts: Split
    evaluator: Evaluator
    bare: int
    label_only: float

    def score(
        self, attacked: Attack, variant: str, bare_variant: str, system: int
    ) -> dict[str, Any]:
        """All numbers of one variant on one system, its gain counted from another variant's undefended error."""
        victims = self.parts.victims
        errors = attacked.errors[variant][system]
        undefended = attacked.errors[bare_variant][self.bare]
        made, mse = attacked.reconstructions[variant][system], float(errors.mean())
        return {
            "variant": variant,
            "mse": mse,
            "psnr": psnr(mse),
            "ssim": ssim(made, victims.inputs, image_shape=self.parts.image_shape),
            "gain": gain(mse, float(undefended.mean()), self.label_only),
            **asdict(row_gain(errors, undefended, self.label_only)),
            **self.evaluator.judge(made, victims),
        }


def _score(
    judge: _Judge, adaptive: Attack, clean: Attack, denoised: Attack, system: int
) -> dict[str, Any]:
    """Scores one defense under A1, A2, A3, A3 with the variant chosen on held-out rows, and the denoiser."""
    bare = judge.bare
    worst = adaptive.strongest(system), adaptive.strongest(bare)
    chosen = adaptive.chosen(system), adaptive.chosen(bare)
    scores = {
        "A1": judge.score(clean, clean.strongest(system), clean.strongest(bare), system),
        "A2": judge.score(adaptive, STANDARD, STANDARD, system),
        "A3": judge.score(adaptive, *worst, system),
        "denoiser": judge.score(
            denoised, denoised.strongest(system), denoised.strongest(bare), system
        ),
    }
    # Mostly the adversary chooses the variant that is the strongest; similarity takes long.
    scores["A3 chosen"] = (
        scores["A3"] if chosen == worst else judge.score(adaptive, *chosen, system)
    )
    return scores


def _variants(adaptive: Attack, clean: Attack, system: int) -> dict[str, dict[str, float]]:
    """Returns every variant's error on the victims and on the adversary's held-out rows."""
    table = {
        name: {
            "mse": float(errors[system].mean()),
            "held_out_mse": float(adaptive.held_out[name][system]),
        }
        for name, errors in adaptive.errors.items()
    }
    for name, errors in clean.errors.items():
        table[f"{name}, trained clean"] = {"mse": float(errors[system].mean())}
    return table


def _doubling(
    once: Attack,
    twice: Attack,
    checked: list[int],
    names: list[str],
    label_only: float,
    bare: int,
) -> dict[str, Any]:
    """Compares the adversaries with themselves after twice the epochs."""
    bare_twice = checked.index(bare)
    report: dict[str, Any] = {}
    for position, system in enumerate(checked):
        families = {
            "A2": (STANDARD, STANDARD, STANDARD),
            "A3": (once.strongest(system), twice.strongest(position), twice.strongest(bare_twice)),
        }
        report[names[system]] = {}
        for family, (first, second, undefended) in families.items():
            mse = float(once.errors[first][system].mean())
            doubled = float(twice.errors[second][position].mean())
            reference = float(twice.errors[undefended][bare_twice].mean())
            report[names[system]][family] = {
                "mse": mse,
                "mse_doubled": doubled,
                "change": doubled / mse - 1.0,
                "gain_doubled": gain(doubled, reference, label_only),
            }
    return report


def _floors(parts: Split) -> dict[str, float]:
    """Returns the errors of answering with the auxiliary mean, and with the true class's mean."""
    auxiliary, victims = parts.auxiliary, parts.victims
    # Of classes that the adversary has never seen, the private rows know the mean.
    known = auxiliary if len(auxiliary.labels.unique()) == parts.classes else parts.private
    means = torch.stack(
        [known.inputs[known.labels == label].mean(0) for label in range(parts.classes)]
    )
    return {
        "global_mean": float(row_errors(auxiliary.inputs.mean(0), victims.inputs).mean()),
        "class_mean": float(row_errors(means[victims.labels], victims.inputs).mean()),
    }


def _pictures(
    configuration: Configuration, parts: Split, adaptive: Attack, names: list[str], bare: int
) -> dict[str, npt.NDArray[np.float32]]:
    """Cuts the first victim of each class, as every defense's strongest adversary sees it."""
    labels = parts.victims.labels
    first = [int((labels == label).nonzero()[0]) for label in range(parts.classes)]
    rows = torch.tensor(first[: configuration.victims_shown])

    def image(pixels: Tensor) -> npt.NDArray[np.float32]:
        shown: npt.NDArray[np.float32] = pixels[rows].reshape(-1, *parts.image_shape).numpy()
        return shown

    pictures = {
        "originals": image(parts.victims.inputs),
        "label only": image(adaptive.reconstructions["label only"][bare]),
    }
    for system, name in enumerate(names):
        pictures[name] = image(adaptive.reconstructions[adaptive.strongest(system)][system])
    return pictures
