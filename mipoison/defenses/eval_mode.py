"""Keep a model in eval mode, whatever it is made of: an answer must be a function of the query alone."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import Any, Final

from torch import fx, nn

# What torch's operators call the argument that tells training from serving.
_TRAINING: Final = ("train", "training")


def modules_of(model: Any) -> tuple[nn.Module, ...]:
    """The module that a model is, or those that a function refers to.

    These are the owner of a bound method, what `functools.partial` holds, what a function calls by a name of its
    module or of the function around it, and the attributes of another callable object. Modules deeper than that, as in
    a list, are not found.
    """
    if isinstance(model, nn.Module):
        return (model,)
    found = {id(part): part for part in _parts(model) if isinstance(part, nn.Module)}
    return tuple(found.values())


def _parts(model: Any) -> Iterable[Any]:
    """The objects that a function or a callable object refers to."""
    model = inspect.unwrap(model)
    if isinstance(model, functools.partial):
        return (model.func, *model.args, *model.keywords.values(), *_parts(model.func))
    if inspect.ismethod(model):
        return (model.__self__, *_attributes(model.__self__), *_parts(model.__func__))
    if inspect.isfunction(model):
        try:
            names = inspect.getclosurevars(model)
        except ValueError:  # a name that is not bound yet
            return ()
        return (*names.nonlocals.values(), *names.globals.values())
    return _attributes(model)


def _attributes(value: Any) -> Iterable[Any]:
    return () if isinstance(value, nn.Module) else tuple(getattr(value, "__dict__", {}).values())


def to_eval_mode(module: nn.Module) -> None:
    """Calls `eval`, and checks what cannot be switched: an exported program keeps the mode of its export.

    Raises:
        ValueError: for a program that was exported in training mode.
    """
    try:
        module.eval()
    except NotImplementedError:
        module.training = False
        if isinstance(module, fx.GraphModule):
            _require_exported_in_eval_mode(module)
        for child in module.children():
            to_eval_mode(child)


def require_eval_mode(modules: Iterable[nn.Module]) -> None:
    """Raises RuntimeError if one of the modules, or a part of one, was put into training mode since."""
    # (Not `nn.Module.modules`, which is slower: this stands before every answer.)
    left = list(modules)
    while left:
        part = left.pop()
        if part.training:
            raise RuntimeError(
                f"expected the model in eval mode, got {type(part).__name__} in training mode, in which one query "
                "can get many answers; call .eval() before serving"
            )
        left.extend(child for child in part._modules.values() if child is not None)


def _require_exported_in_eval_mode(program: fx.GraphModule) -> None:
    for node in program.graph.nodes:
        arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
        for given, argument in zip(node.args, arguments, strict=False):
            if argument.name in _TRAINING and given is True:
                raise ValueError(
                    f"expected model to be exported in eval mode, got {node.target} in training mode, whose answers "
                    "depend on more than the query; call .eval() before torch.export.export"
                )
