"""Take part with a defense that is not ours: any callable on confidence vectors, named by module and name."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from mipoison.eval.model_answers import scores_in
from mipoison.eval.others_code import in_one_line
from mipoison.reference import valid_rows

# Vectors that a defense is tried out on.
_ASKED: Final = 8
_GUARD: Final = 'put what it runs as a program under if __name__ == "__main__":'


def imported(name: str) -> Any:
    """What "module:name" refers to; the working folder is searched too.

    Raises:
        ValueError: if it is written otherwise, not there, or its module does not load.
    """
    module, _, attribute = name.partition(":")
    if not module or not attribute:
        raise ValueError(f"expected module:name, got {name!r}")
    _search_here()
    try:
        found = importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name in (module, module.partition(".")[0]):
            raise ValueError(
                f"{name}: expected a module {module} in {os.getcwd()} or installed, found none"
            ) from error
        raise ValueError(
            f"{name}: expected {module} to load, but it imports {error.name}, which is not installed"
        ) from error
    except SystemExit as error:
        raise ValueError(f"{name}: expected {module} to load, but it exits; {_GUARD}") from error
    except Exception as error:
        with in_one_line(f"{name}: {module}, imported,"):
            raise error
    if not hasattr(found, attribute):
        raise ValueError(f"{name}: expected {module} to have {attribute}, found none")
    return getattr(found, attribute)


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
    found = checked_defense(name)
    if hasattr(found, "fit"):
        found = found.fit(outputs.clone(), inputs.clone(), key=key, seed=seed)
    if not callable(found):
        raise ValueError(
            f"{name}: expected its fit to return a callable, got {type(found).__name__}"
        )

    def defend(served: Tensor) -> Tensor:
        # Copies: one that works in place, or answers with one buffer, must not change what others are measured by.
        return _checked(name, found(served.clone()), served)

    return defend


def checked_defense(name: str) -> Any:
    """What a name refers to: a defense, or something that fits one; neither is asked.

    Raises:
        ValueError: if it is neither.
    """
    found = imported(name)
    if hasattr(found, "fit"):
        try:
            inspect.signature(found.fit).bind("outputs", "inputs", key=1, seed=0)
        except TypeError as error:
            raise ValueError(
                f"{name}: expected its fit to take (outputs, inputs, key=, seed=), got {error}; of a class it is a "
                "classmethod"
            ) from error
        except ValueError:
            # Compiled code does not tell what it takes.
            pass
    elif inspect.isclass(found):
        raise ValueError(
            f"{name}: expected a callable from vectors to vectors or something with a fit, got the class "
            f"{found.__name__}; make an instance in its module and name that"
        )
    elif not callable(found):
        raise ValueError(
            f"{name}: expected it to be callable, or to have a fit that returns a callable, got {type(found).__name__}"
        )
    return found


def try_out(name: str, classes: int) -> None:
    """Asks a defense that needs no fit about a few vectors; of one that does, only its signature is looked at.

    Raises:
        ValueError: if it is no defense, raises something, or answers with no batch of probability vectors.
    """
    found = checked_defense(name)
    if hasattr(found, "fit"):
        return
    generator = torch.Generator().manual_seed(0)
    vectors = torch.softmax(torch.randn(_ASKED, classes, generator=generator), 1)
    with in_one_line(f"{name}, asked with {_ASKED} vectors of {classes} classes,"):
        answer = found(vectors.clone())
    _checked(name, answer, vectors)


def _checked(name: str, answered: Any, served: Tensor) -> Tensor:
    """A defense's answer as a tensor of its own."""
    try:
        answer = scores_in(answered).clone()
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
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
