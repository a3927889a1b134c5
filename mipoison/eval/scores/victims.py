"""Score the reconstructions of one cell's victims, also by a classifier that is independent of the target."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import isnan
from typing import Any

import torch
from torch import Tensor, nn

from mipoison.eval.adversaries.base import STANDARD, Attack
from mipoison.eval.data.splits import Role, Split, joined
from mipoison.eval.metrics import gain, psnr, row_errors, row_gain, ssim
from mipoison.eval.scores.lpips import Lpips
from mipoison.eval.scores.recognition import Recognizer
from mipoison.eval.targets.networks import LEAST_SIDE
from mipoison.eval.targets.own import embedding
from mipoison.eval.targets.stored import STORED
from mipoison.eval.targets.training import accuracy, through, train_target


class NothingToDefend(ValueError):
    """Undefended vectors tell adversaries nothing beyond the label."""


@dataclass(frozen=True)
class Evaluator:
    """A classifier of another architecture and seed, trained on all rows of known class but the victims'.

    (Of images too small for convolutions it is a multilayer perceptron, as their target may be, of another seed.)

    Attributes:
        body: pixels ``[N, D]`` to features.
        head: features to logits.
        scale: mean squared distance between the features of two different victims.
        accuracy: share of the victims' true images that it classifies as labelled.
    """

    body: nn.Module
    head: nn.Module
    scale: float
    accuracy: float

    @classmethod
    def train(cls, parts: Split, *, target: str, seed: int) -> Evaluator:
        """Trains it for one split.

        Args:
            parts: the data by role.
            target: architecture of the target classifier, so as to take another one.
            seed: of the evaluator alone.
        """
        roles = (parts.private, parts.defender, parts.auxiliary)
        everyone = joined(*roles)
        flat = target.partition("+")[0] in ("mlp", STORED)
        model = train_target(
            everyone.where(everyone.labels >= 0),
            classes=parts.classes,
            seed=seed,
            architecture="cnn" if flat and min(parts.image_shape) >= LEAST_SIDE else "mlp",
            image_shape=parts.image_shape,
            epochs=10,
        )
        body, head = model[:-1], model[-1]
        victims = parts.victims
        features = through(body, victims.inputs).double()
        # Over pairs of different rows the squared distance is twice the (unbiased) variance.
        scale = 2 * float(features.var(0).sum())
        return cls(body, head, scale, accuracy(model, victims))

    def judge(self, reconstructed: Tensor, victims: Role) -> dict[str, float]:
        """How much of the victims is recognised.

        Args:
            reconstructed: ``[M, D]``, pixels in [0, 1].
            victims: the rows behind them.

        Returns:
            identity: share of the reconstructions that are classified as the victim's true class (for faces, the
            person), in [0, 1]. feature_distance: mean squared distance to the true image's features, 0 for the same
            and 1 for as far as two victims are apart on average.
        """
        seen = through(self.body, reconstructed.clamp(0.0, 1.0))
        true = through(self.body, victims.inputs)
        apart = (seen.double() - true.double()).square().sum(1).mean()
        right = through(self.head, seen).argmax(1) == victims.labels
        return {
            "identity": float(right.double().mean()),
            "feature_distance": float(apart) / self.scale,
        }


def independent_evaluator(
    parts: Split, target: str, given: str | None = None, *, seed: int
) -> Evaluator | Recognizer | None:
    """Who recognises by the embeddings given, or `Evaluator.train`; None where rows have no classes."""
    if given is not None:
        return Recognizer.of(embedding(given, parts), parts)
    return Evaluator.train(parts, target=target, seed=seed) if parts.classes else None


@dataclass(frozen=True)
class Judge:
    """Scores reconstructions of one cell's victims.

    Attributes:
        parts: the data by role.
        evaluator: the independent classifier; None: no victim has a class.
        bare: the undefended system's index.
        label_only: error of the label-only adversary.
        lpips: measures perceptual distance; None: its weights are not given.
    """

    parts: Split
    evaluator: Evaluator | Recognizer | None
    bare: int
    label_only: float
    lpips: Lpips | None = None

    def score(
        self, attacked: Attack, variant: str, bare_variant: str, system: int
    ) -> dict[str, Any]:
        """All numbers of one variant on one system, its gain counted from another variant's undefended error."""
        victims = self.parts.victims
        errors = attacked.errors[variant][system]
        undefended = attacked.errors[bare_variant][self.bare]
        made, mse = attacked.reconstructions[variant][system], float(errors.mean())
        unseen: dict[str, float | None] = {"identity": None, "feature_distance": None}
        judged = {**(self.evaluator.judge(made, victims) if self.evaluator else unseen)}
        shape = self.parts.image_shape
        if self.lpips is not None:
            judged["lpips"] = self.lpips.mean(made, victims.inputs, image_shape=shape)
        return {
            "variant": attacked.described(variant, system),
            "mse": mse,
            "psnr": psnr(mse),
            "ssim": ssim(made, victims.inputs, image_shape=shape),
            "gain": gain(mse, float(undefended.mean()), self.label_only),
            **asdict(row_gain(errors, undefended, self.label_only)),
            **judged,
        }


def scores_of(
    judge: Judge, adaptive: Attack, clean: Attack, denoised: Attack, system: int
) -> dict[str, Any]:
    """Scores one defense under the clean, standard and adaptive adversary, the adaptive one's choice, and the denoiser.

    Raises:
        NothingToDefend: if the strongest adversary learns nothing beyond the label from undefended vectors.
    """
    bare = judge.bare
    worst = adaptive.strongest(system), adaptive.strongest(bare)
    undefended = float(adaptive.errors[worst[1]][bare].mean())
    if undefended >= judge.label_only:
        raise NothingToDefend(
            "expected an adversary who makes more of undefended vectors than of labels, got an MSE of "
            f"{undefended:.4g} for both: there is nothing to defend here, or the adversary needs more rows or epochs"
        )
    chosen = adaptive.chosen(system), adaptive.chosen(bare)
    scores = {
        "clean": judge.score(clean, clean.strongest(system), clean.strongest(bare), system),
        "standard": judge.score(adaptive, STANDARD, STANDARD, system),
        "adaptive": judge.score(adaptive, *worst, system),
        "denoiser": judge.score(
            denoised, denoised.strongest(system), denoised.strongest(bare), system
        ),
    }
    # Mostly the adversary chooses the variant that is the strongest; similarity takes long.
    scores["adaptive chosen"] = (
        scores["adaptive"] if chosen == worst else judge.score(adaptive, *chosen, system)
    )
    return scores


def variants_of(
    adaptive: Attack, clean: Attack, denoised: Attack, system: int
) -> dict[str, dict[str, float]]:
    """Returns every variant's error on the victims and on the adversary's held-out rows."""
    table = {
        name: {"mse": float(errors[system].mean())}
        | (
            {"held_out_mse": float(attacked.held_out[name][system])}
            if name in attacked.held_out
            else {}
        )
        for attacked in (adaptive, denoised)
        for name, errors in attacked.errors.items()
    }
    for name, errors in clean.errors.items():
        table[f"{name}, trained clean"] = {"mse": float(errors[system].mean())}
    return table


def crossings(
    adaptive: Attack, clean: Attack, served: Tensor, victims: Role, bare: int
) -> list[dict[str, float]]:
    """Returns the standard network's errors for every system, by what it was trained and then tested on."""
    swapped = adaptive.networks[STANDARD].reconstruct(served[bare].expand_as(served))
    return [
        {
            "clean_clean": float(adaptive.errors[STANDARD][bare].mean()),
            "clean_defended": float(clean.errors[STANDARD][system].mean()),
            "defended_clean": float(row_errors(swapped[system], victims.inputs).mean()),
            "defended_defended": float(adaptive.errors[STANDARD][system].mean()),
        }
        for system in range(len(served))
    ]


def curves_of(adaptive: Attack, system: int) -> dict[str, dict[str, list[float]]]:
    """Returns each trained variant's error after every epoch, on what it trains on and what it keeps back."""
    return {
        variant: {
            side: [round(epoch[system], 6) for epoch in epochs if not isnan(epoch[system])]
            for side, epochs in (("train", curve["train"]), ("held_out", curve["held_out"]))
        }
        for variant, curve in adaptive.curves.items()
    }


def doubling(
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
            "standard": (STANDARD, STANDARD, STANDARD),
            "adaptive": (
                once.strongest(system),
                twice.strongest(position),
                twice.strongest(bare_twice),
            ),
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


def floors(parts: Split) -> dict[str, float | None]:
    """Returns the errors of answering with the auxiliary mean, and with the true class's mean; None without classes."""
    auxiliary, victims = parts.auxiliary, parts.victims
    global_mean = float(row_errors(auxiliary.inputs.mean(0), victims.inputs).mean())
    if not parts.classes:
        return {"global_mean": global_mean, "class_mean": None}
    # Of classes that the adversary has never seen, the private rows know the mean.
    known = auxiliary if len(auxiliary.labels.unique()) == parts.classes else parts.private
    means = torch.stack(
        [known.inputs[known.labels == label].mean(0) for label in range(parts.classes)]
    )
    # (Nothing is known of a class without rows.)
    means = torch.where(means.isnan(), known.inputs.mean(0), means)
    return {
        "global_mean": global_mean,
        "class_mean": float(row_errors(means[victims.labels], victims.inputs).mean()),
    }
