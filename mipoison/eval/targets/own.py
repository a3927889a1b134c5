"""Defend a classifier that is not ours: a callable, a file of TorchScript or torch.export, an estimator."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mipoison.eval.data.splits import Split
from mipoison.eval.outside import imported, in_one_line, scores_in
from mipoison.reference import valid_rows

# What files hold, by their suffix.
FILES = (".pt", ".ts", ".pt2")
# Of probabilities the logarithm is the logit; zeros have none.
_FLOOR = 1e-12
_EXAMPLES = 32
# Images that are embedded together: at 150×150 pixels the maps of a network are large.
_TOGETHER = 64


def is_outside(target: str) -> bool:
    """Whether a target is no architecture of ours, but named by module or file."""
    # No module's name has a plus, as "mlp+vib:0.1" has.
    return (":" in target and "+" not in target) or Path(target).suffix in FILES


def outside_target(target: str, parts: Split, *, seed: int) -> nn.Module:
    """Loads a classifier, or trains an estimator, and brings it to one form.

    Args:
        target: "module:name" of a callable from images ``[n, 1, H, W]`` in [0, 1] to logits or probabilities
            ``[n, K]``, where `model_answers.scores_in` finds them, of an estimator with ``predict_proba`` for rows
            ``[n, D]``, or of a class of such estimators, which is fitted on the private rows; or a file of TorchScript
            (.pt, .ts) or torch.export (.pt2) that takes images.
        parts: the data by role. A target that comes trained does without the private rows.
        seed: ``random_state`` of an estimator that is fitted here, if it has one.

    Returns:
        A module from rows ``[n, D]`` to logits ``[n, K]``, float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name refers to no classifier, or to one of another number of classes; also where its own
            code raises something.
    """
    found = named_classifier(target)
    answer: Callable[[Tensor], Any]
    if inspect.isclass(found) and hasattr(found, "predict_proba"):
        with in_one_line(f"target: {target}, fitted on the private rows,"):
            found = _fitted(found, parts, seed)
    if hasattr(found, "predict_proba"):
        answer = _estimator(found)
    elif inspect.isclass(found):
        raise ValueError(
            f"target: expected {target} to be a classifier, got the class {found.__name__}; make an instance in its "
            f"module and name that, say: model = {found.__name__}()"
        )
    elif callable(found):
        answer = _of_images(found, parts.image_shape)
    else:
        raise ValueError(
            f"target: expected {target} to be callable or to have predict_proba, got {type(found).__name__}"
        )
    return _Target(target, answer, parts)


def named_classifier(name: str, option: str = "target") -> Any:
    """Imports or loads what a name refers to, in eval mode where it is a network.

    Args:
        name: "module:name", or a file of TorchScript or torch.export; see `outside_target`.
        option: what gave the name, for messages.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name refers to nothing that loads.
    """
    found = _imported(name, option) if ":" in name else _loaded(name, option)
    # What torch.export wrote is in one mode for good, and says so.
    if isinstance(found, nn.Module) and not name.endswith(".pt2"):
        found.eval()
    return found


def embedding(name: str, parts: Split) -> Callable[[Tensor], Tensor]:
    """What maps pixels ``[N, D]`` to embeddings ``[N, E]``, by which somebody is recognised.

    Args:
        name: "module:name" of a callable from images ``[n, 1, H, W]`` in [0, 1] to embeddings ``[n, E]``, or a file of
            TorchScript (.pt, .ts) or torch.export (.pt2).
        parts: the data by role; its rows have classes.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such callable, or the rows have no classes.
    """
    if not parts.classes:
        raise ValueError(
            "evaluator: expected data with classes, by which somebody is recognised, got none; leave it out"
        )
    found = named_classifier(name, "evaluator")

    answer = _of_images(found, parts.image_shape)
    example = parts.victims.inputs[:4]
    with in_one_line(f"evaluator: {name}, asked with {len(example)} images,"):
        answered = scores_in(answer(example))
    if answered.dim() != 2 or len(answered) != len(example) or not bool(answered.isfinite().all()):
        raise ValueError(
            f"evaluator: {name}: expected {len(example)} images to be answered with finite numbers "
            f"[{len(example)}, E], got {list(answered.shape)}"
        )
    return lambda rows: torch.cat([scores_in(answer(few)) for few in rows.split(_TOGETHER)])


class _Target(nn.Module):
    """Rows to logits."""

    def __init__(self, name: str, answer: Callable[[Tensor], Any], parts: Split) -> None:
        super().__init__()
        self._answer = answer
        example = parts.defender.inputs[:_EXAMPLES]
        height, width = parts.image_shape
        asked = f"{len(example)} images, [n, 1, {height}, {width}] or rows of {example.shape[1]} for an estimator"
        with in_one_line(f"target: {name}, asked with {asked},"):
            answered = answer(example)
        try:
            scores = scores_in(answered)
            shape = tuple(scores.shape)
            if shape != (len(example), parts.classes):
                raise ValueError(
                    f"expected {len(example)} images to be answered with {[len(example), parts.classes]} numbers, "
                    f"got {list(shape)}"
                )
            self._gives = kind_of_scores(scores)
        except ValueError as error:
            raise ValueError(f"target: {name}: {error}") from error

    def forward(self, rows: Tensor) -> Tensor:
        outputs = scores_in(self._answer(rows))
        return outputs if self._gives == "logits" else outputs.clamp_min(_FLOOR).log()


def kind_of_scores(scores: Tensor) -> str:
    """Whether scores ``[n, K]`` are all probabilities, or all logits.

    Raises:
        ValueError: if they are not finite, of both kinds, or probabilities whose sums are not one.
    """
    if not bool(scores.isfinite().all()):
        raise ValueError("expected finite scores, got NaN or Inf")
    valid = int(valid_rows(scores).sum())
    if 0 < valid < len(scores):
        raise ValueError(
            f"expected all answers to be probability vectors or all to be logits, got {valid} probability vectors "
            f"among {len(scores)}; answer with logits"
        )
    if not valid and _nearly_probabilities(scores):
        raise ValueError(
            "expected probability vectors (sum 1) or logits, got scores >= 0 that look like probabilities in percent, "
            "rounded, cut off or of separate sigmoids; divide each row by its sum, or answer with logits"
        )
    return "probabilities" if valid else "logits"


def _nearly_probabilities(scores: Tensor) -> bool:
    """Whether scores are all in [0, 1], or shares of 100."""
    middle = float(scores.double().sum(1).median())
    return bool(scores.min() >= 0) and bool(scores.max() <= 1.001 or 90.0 <= middle <= 110.0)


def _imported(target: str, option: str) -> Any:
    try:
        return imported(target)
    except ValueError as error:
        raise ValueError(f"{option}: {error}") from error


def _loaded(file: str, option: str) -> Any:
    if not Path(file).is_file():
        raise FileNotFoundError(f"{option}: expected a file {file}, found none")
    exported = file.endswith(".pt2")
    wanted = "torch.export.save" if exported else "the save of torch.jit.script or torch.jit.trace"
    advice = (
        f"; expected what {wanted} wrote. What torch.save wrote needs its own code: name a module that loads it, "
        "module:name"
    )
    # Torch logs whole tracebacks of files that it cannot read.
    logging.disable(logging.WARNING)
    try:
        with in_one_line(f"{option}: {file}, loaded,", advice=advice):
            return (
                torch.export.load(file).module()
                if exported
                else torch.jit.load(file, map_location="cpu")
            )
    finally:
        logging.disable(logging.NOTSET)


def _fitted(kind: Any, parts: Split, seed: int) -> Any:
    estimator = kind()
    if hasattr(estimator, "get_params") and "random_state" in estimator.get_params():
        # scikit-learn takes 32 bits.
        estimator.set_params(random_state=seed % 2**32)
    return estimator.fit(parts.private.inputs.numpy(), parts.private.labels.numpy())


# Copies go in: whatever normalises in place must not change the images that all are measured on.
def _estimator(estimator: Any) -> Callable[[Tensor], Any]:
    return lambda rows: estimator.predict_proba(rows.clone().numpy())


def _of_images(found: Any, image_shape: tuple[int, int]) -> Callable[[Tensor], Any]:
    def answer(rows: Tensor) -> Any:
        with torch.no_grad():
            return found(rows.clone().reshape(-1, 1, *image_shape))

    return answer
