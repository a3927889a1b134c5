"""Take part with a defense that is not ours: any callable on confidence vectors, named by module and name."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mipoison.reference import valid_rows


def imported(name: str) -> Any:
    """What "module:name" refers to; the working folder is searched too.

    Raises:
        ValueError: if it is written otherwise, or not there.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"expected module:name, got {name!r}")
    _search_here()
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        if error.name not in (module, module.partition(".")[0]):
            raise
        raise ValueError(f"expected a module {module} in {os.getcwd()} or installed") from error
    except AttributeError as error:
        raise ValueError(f"expected {module} to have {attribute}, found none") from error


def module_file(name: str) -> Path | None:
    """The file of the module in "module:name"; None where there is none."""
    _search_here()
    try:
        found = importlib.util.find_spec(name.partition(":")[0])
    except (ImportError, ValueError):
        return None
    return None if found is None or not found.has_location else Path(str(found.origin))


def _search_here() -> None:
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())


def outside_defense(
    name: str, outputs: Tensor, inputs: Tensor, *, key: int, seed: int
) -> Callable[[Tensor], Tensor]:
    """Builds the defense.

    Args:
        name: "module:name" of a callable from vectors ``[n, K]`` to vectors ``[n, K]``, tensors or arrays; or of
            something whose ``fit(outputs, inputs, key=..., seed=...)`` gives such a callable.
        outputs: undefended vectors of the defender's own data, ``[n, K]``.
        inputs: that data, ``[n, D]``.
        key: the deployment's secret.
        seed: of whatever is trained.

    Returns:
        The callable; it raises ValueError where an answer is no batch of probability vectors.

    Raises:
        ValueError: if the name refers to nothing, or to no callable.
    """
    found = imported(name)
    if hasattr(found, "fit"):
        found = found.fit(outputs.clone(), inputs.clone(), key=key, seed=seed)
    if not callable(found):
        raise ValueError(
            f"expected {name} to be callable, or its fit to return a callable, got {type(found).__name__}"
        )

    def defend(served: Tensor) -> Tensor:
        # Copies: one that works in place, or answers with one buffer, must not change what others are measured by.
        answer = torch.as_tensor(found(served.clone())).to(torch.float32, copy=True)
        if answer.shape != served.shape:
            raise ValueError(
                f"{name}: expected answers of shape {list(served.shape)}, got {list(answer.shape)}"
            )
        bad = ~valid_rows(answer)
        if bad.any():
            first = int(bad.nonzero()[0])
            raise ValueError(
                f"{name}: expected probability vectors, got {int(bad.sum())} rows that are none, the first "
                f"{answer[first].tolist()}; entries must be >= 0 and sum to 1"
            )
        return answer

    return defend
