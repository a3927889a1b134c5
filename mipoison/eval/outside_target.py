"""Defend a classifier that is not ours: a callable, a file of TorchScript or torch.export, an estimator."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mipoison.defenses.defended import found_out
from mipoison.eval.data import Split
from mipoison.eval.outside import imported

# What files hold, by their suffix.
FILES = (".pt", ".ts", ".pt2")
# Of probabilities the logarithm is the logit; zeros have none.
_FLOOR = 1e-12
_EXAMPLES = 32


def is_outside(target: str) -> bool:
    """Whether a target is no architecture of ours, but named by module or file."""
    # No module's name has a plus, as "mlp+vib:0.1" has.
    return (":" in target and "+" not in target) or Path(target).suffix in FILES


def outside_target(target: str, parts: Split, *, seed: int) -> nn.Module:
    """Loads a classifier, or trains an estimator, and brings it to one form.

    Args:
        target: "module:name" of a callable from images ``[n, 1, H, W]`` in [0, 1] to logits or probabilities
            ``[n, K]``, of an estimator with ``predict_proba`` for rows ``[n, D]``, or of a class of such estimators,
            which is fitted on the private rows; or a file of TorchScript (.pt, .ts) or torch.export (.pt2) that takes
            images.
        parts: the data by role. A target that comes trained does without the private rows.
        seed: ``random_state`` of an estimator that is fitted here, if it has one.

    Returns:
        A module from rows ``[n, D]`` to logits ``[n, K]``, float32.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name refers to no classifier, or to one of another number of classes.
    """
    found = _loaded(target) if ":" not in target else imported(target)
    # What torch.export wrote is in one mode for good, and says so.
    if isinstance(found, nn.Module) and not target.endswith(".pt2"):
        found.eval()
    answer: Callable[[Tensor], Tensor]
    if inspect.isclass(found) and hasattr(found, "predict_proba"):
        found = _fitted(found, parts, seed)
    if hasattr(found, "predict_proba"):
        answer = _estimator(found)
    elif callable(found):
        answer = _of_images(found, parts.image_shape)
    else:
        raise ValueError(
            f"target: expected {target} to be callable or to have predict_proba, got {type(found).__name__}"
        )
    return _Target(target, answer, parts)


class _Target(nn.Module):
    """Rows to logits."""

    def __init__(self, name: str, answer: Callable[[Tensor], Tensor], parts: Split) -> None:
        super().__init__()
        self._answer = answer
        example = parts.defender.inputs[:_EXAMPLES]
        shape = tuple(answer(example).shape)
        if shape != (len(example), parts.classes):
            raise ValueError(
                f"target: expected {name} to answer {len(example)} images with "
                f"{[len(example), parts.classes]} numbers, got {list(shape)}"
            )
        self._gives = found_out(self._answer, example)  # type: ignore[arg-type]

    def forward(self, rows: Tensor) -> Tensor:
        outputs = self._answer(rows)
        return outputs if self._gives == "logits" else outputs.clamp_min(_FLOOR).log()


def _loaded(file: str) -> Any:
    if not Path(file).exists():
        raise FileNotFoundError(f"target: expected a file {file}, found none")
    if file.endswith(".pt2"):
        return torch.export.load(file).module()
    return torch.jit.load(file, map_location="cpu")


def _fitted(kind: Any, parts: Split, seed: int) -> Any:
    estimator = kind()
    if "random_state" in estimator.get_params():
        # scikit-learn takes 32 bits.
        estimator.set_params(random_state=seed % 2**32)
    return estimator.fit(parts.private.inputs.numpy(), parts.private.labels.numpy())


# Copies go in: whatever normalises in place must not change the images that all are measured on.
def _estimator(estimator: Any) -> Callable[[Tensor], Tensor]:
    def answer(rows: Tensor) -> Tensor:
        return torch.as_tensor(estimator.predict_proba(rows.clone().numpy())).to(torch.float32)

    return answer


def _of_images(found: Any, image_shape: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    def answer(rows: Tensor) -> Tensor:
        with torch.no_grad():
            return torch.as_tensor(found(rows.clone().reshape(-1, 1, *image_shape))).to(
                torch.float32
            )

    return answer
