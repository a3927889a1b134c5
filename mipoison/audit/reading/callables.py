"""Ask a classifier of other people's for the vectors of an audit's inputs."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from mipoison.audit.reading.found import Array
from mipoison.eval.outside import in_one_line, scores_in
from mipoison.eval.targets.own import FILES, kind_of_scores, named_classifier
from mipoison.progress import Progress


def answered(
    model: str,
    batches: Iterator[Any],
    count: int,
    progress: Progress,
    attributes: Sequence[str] = (),
) -> tuple[Array, bool]:
    """The scores [N, K] that a model gives, and whether they are logits, which only negative ones tell.

    Args:
        model: "module:name" of a callable or of a fitted estimator with ``predict_proba``, or a file of TorchScript or
            torch.export.
        batches: the inputs. Of images [n, C, H, W] in [0, 1], which estimators get as rows, channels first; of tables
            data frames; of embeddings arrays [n, D], which networks get as tensors.
        count: N.
        progress: told the share that is answered.
        attributes: columns of a data frame that a model gets which does not say what it was fitted on.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name refers to no classifier, its code raises something, or its answers are no scores.
    """
    if ":" not in model and not model.endswith(FILES):
        raise ValueError(
            f"model: expected module:name or a file ({', '.join(FILES)}), got {model}; of pickled models write a "
            "module that loads them, and name it"
        )
    answer, columns = _classifier(model)
    found: list[Tensor] = []
    for batch in batches:
        given = _selected(model, batch, columns or attributes)
        with in_one_line(f"model: {model}, asked with {_described(given)},"):
            replied = answer(given)
        try:
            scores = scores_in(replied)
            if scores.ndim == 1:
                scores = scores[:, None]
            classes = found[0].shape[1:] if found else scores.shape[1:]
            if scores.ndim != 2 or len(scores) != len(batch) or scores.shape[1:] != classes:
                raise ValueError(
                    f"expected {len(batch)} inputs to be answered with [{len(batch)}, K] numbers, got "
                    f"{list(scores.shape)}; it takes {_described(given)}"
                )
        except ValueError as error:
            raise ValueError(f"model: {model}: {error}") from error
        # A copy: some models answer with one buffer.
        found.append(scores.clone())
        progress(min(1.0, sum(map(len, found)) / count))
    scores = torch.cat(found)
    # (Scores that are not negative may be probabilities in percent, cut off or rounded.)
    logits = scores.shape[1] > 1 and bool((scores < 0).any())
    try:
        logits = logits and kind_of_scores(scores) == "logits"
    except ValueError as error:
        raise ValueError(f"model: {model}: {error}") from error
    return scores.numpy(), logits


def _classifier(model: str) -> tuple[Callable[[Any], Any], list[str] | None]:
    """What answers, and the columns that it was fitted on, where it says so."""
    found = named_classifier(model, "model")
    if inspect.isclass(found):
        raise ValueError(
            f"model: expected {model} to be a fitted classifier, got the class {found.__name__}; make an instance in "
            "its module, fit or load it, and name that"
        )
    if hasattr(found, "predict_proba"):
        named = getattr(found, "feature_names_in_", None)
        return _estimator(found), None if named is None else [str(name) for name in named]
    if not callable(found):
        raise ValueError(
            f"model: expected {model} to be callable or to have predict_proba, got {type(found).__name__}"
        )
    return _network(found) if isinstance(found, nn.Module) else _without_gradient(found), None


# Copies go in, since some models work in place.
def _estimator(estimator: Any) -> Callable[[Any], Any]:
    def answer(batch: Any) -> Any:
        rows = batch.flatten(1).numpy() if isinstance(batch, Tensor) else batch
        return estimator.predict_proba(rows.copy())

    return answer


def _network(network: nn.Module) -> Callable[[Any], Any]:
    # (Arrays are often float64, and networks float32.)
    numbers = next((one.dtype for one in network.parameters() if one.is_floating_point()), None)

    def answer(batch: Any) -> Any:
        given = torch.tensor(batch) if isinstance(batch, np.ndarray) else batch
        return network(given.to(numbers) if given.is_floating_point() else given)

    return _without_gradient(answer)


def _without_gradient(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def answer(batch: Any) -> Any:
        with torch.no_grad():
            return function(batch.clone() if isinstance(batch, Tensor) else batch.copy())

    return answer


def _selected(model: str, batch: Any, columns: Sequence[str]) -> Any:
    """Of a data frame, the columns that an estimator was fitted on."""
    if not hasattr(batch, "columns"):
        return batch
    missing = [name for name in columns if name not in batch.columns]
    if missing:
        raise ValueError(
            f"model: {model} was fitted on {', '.join(columns[:10])}, got a table without {', '.join(missing[:10])}; "
            "rename the columns, or name a model that takes these"
        )
    return batch[list(columns)]


def _described(batch: Any) -> str:
    kind = "a data frame" if hasattr(batch, "columns") else "an array"
    if isinstance(batch, Tensor):
        kind = "images" if batch.ndim == 4 else "a tensor"
    return f"{kind} {list(batch.shape)}"
