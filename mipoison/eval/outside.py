"""Call code that is not ours: import it by name, find the scores in its answers, and take its defenses."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mipoison.reference import valid_rows

# Our own code, Python's, and what is no file.
_NOT_THEIRS: Final = (str(Path(__file__).parents[1]), sysconfig.get_path("stdlib"), "<")
_MOST: Final = 300


@contextmanager
def in_one_line(said: str, *, advice: str = "") -> Iterator[None]:
    """Makes a ValueError of whatever the block raises.

    Args:
        said: what was done to whom, the beginning of the message.
        advice: its end.

    Example:
        >>> with in_one_line("target: mine:net, asked with 32 images,"):
        ...     raise KeyError("x")
        Traceback (most recent call last):
        ValueError: target: mine:net, asked with 32 images, raised KeyError: 'x'
    """
    try:
        yield
    except BaseException as error:
        # Whatever it is, but Ctrl-C.
        if isinstance(error, KeyboardInterrupt):
            raise
        lines = [line.strip() for line in str(error).splitlines() if line.strip()] or ["no message"]
        # TorchScript puts its own source before what went wrong.
        message = lines[-1] if "Traceback" in str(error) else lines[0]
        message = f"{type(error).__name__}: {message[:_MOST]}"
        raise ValueError(f"{said} raised {message}{_place(error.__traceback__)}{advice}") from error


def _place(trace: TracebackType | None) -> str:
    """The innermost line that is neither ours nor a library's."""
    theirs = [
        frame
        for frame in traceback.extract_tb(trace)
        if not frame.filename.startswith(_NOT_THEIRS) and "site-packages" not in frame.filename
    ]
    return f" ({Path(theirs[-1].filename).name}:{theirs[-1].lineno})" if theirs else ""


# What libraries call them, the most telling first.
_NAMES: Final = ("logits", "probs", "probabilities")


def scores_in(answer: Any) -> Tensor:
    """The logits or probabilities ``[n, K]`` of an answer, in float32.

    Args:
        answer: a tensor or array; something with one as attribute or key "logits", "probs" or "probabilities", as
            Hugging Face's outputs have; or a tuple whose first member is one and no other is of its shape.

    Raises:
        ValueError: if it is something else.

    Example:
        >>> scores_in({"loss": 1.0, "logits": torch.tensor([[0.5, 2.0]])})
        tensor([[0.5000, 2.0000]])
    """
    found = _found(answer)
    if found is None:
        raise ValueError(
            f"expected a tensor or an array of scores [n, K], or one called {', '.join(_NAMES)}, got "
            f"{_described(answer)}; wrap it in a function that returns the scores"
        )
    return found.detach().to("cpu", torch.float32)


def _found(answer: Any) -> Tensor | None:
    if isinstance(answer, Tensor):
        return None if answer.is_complex() else answer
    if isinstance(answer, np.ndarray):
        real = answer.dtype.kind in "fiub"
        return torch.from_numpy(answer.astype(np.float32)) if real else None
    for name in _NAMES:
        part = answer.get(name) if isinstance(answer, Mapping) else getattr(answer, name, None)
        if isinstance(part, Tensor | np.ndarray):
            return _found(part)
    if isinstance(answer, Sequence) and not isinstance(answer, str | bytes) and len(answer):
        return _first(answer)
    return None


def _first(answer: Sequence[Any]) -> Tensor | None:
    """Of several tensors the first, if no other could be meant; rows one under the other, also those of numbers."""
    shapes = [
        tuple(part.shape) if isinstance(part, Tensor | np.ndarray) else None for part in answer
    ]
    first = shapes[0]
    if first is not None and len(first) == 2 and shapes.count(first) == 1:
        return _found(answer[0])
    rows = isinstance(answer, list) and len(set(shapes)) == 1
    if rows and first is not None and len(first) == 1:
        return torch.stack([torch.as_tensor(row, dtype=torch.float32) for row in answer])
    if rows and first is None:
        try:
            return torch.tensor(answer, dtype=torch.float32)
        except (ValueError, TypeError, RuntimeError):
            return None
    return None


def _described(answer: Any) -> str:
    """Its type, and what it is made of."""
    kind = type(answer).__name__
    if isinstance(answer, Mapping):
        return f"{kind} with {', '.join(map(str, answer)) or 'nothing'}"
    if isinstance(answer, tuple | list):
        parts = [
            f"{type(part).__name__} {list(part.shape)}"
            if hasattr(part, "shape")
            else type(part).__name__
            for part in answer[:4]
        ]
        return f"{kind} of {', '.join(parts) or 'nothing'}"
    if isinstance(answer, Tensor | np.ndarray):
        return f"{kind} of {answer.dtype}"
    return kind


# Vectors that a defense is tried out on.
_ASKED: Final = 8
_NOTHING: Final = object()
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
    except BaseException as error:
        with in_one_line(f"{name}: {module}, imported,"):
            raise error
    # A module may find its names by code of its own.
    with in_one_line(f"{name}: {module}, asked for {attribute},"):
        named = getattr(found, attribute, _NOTHING)
    if named is _NOTHING:
        raise ValueError(f"{name}: expected {module} to have {attribute}, found none")
    return named


def _is_fitted(name: str, found: Any) -> bool:
    """Whether it has a fit, which gives the defense; looking may run code of its own."""
    with in_one_line(f"{name}, asked for its fit,"):
        return hasattr(found, "fit")


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
    if _is_fitted(name, found):
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
    if _is_fitted(name, found):
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
    if _is_fitted(name, found):
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
