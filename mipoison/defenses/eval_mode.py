"""Keep a model in eval mode, whatever it is made of: an answer must be a function of the query alone."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

import torch
from torch import fx, nn

# What torch's operators call the argument that tells training from serving.
_TRAINING: Final = ("train", "training")


def to_eval_mode(module: nn.Module) -> None:
    """Calls `eval`, or does what it would where an exported program does not know it."""
    try:
        module.eval()
    except NotImplementedError:
        module.training = False
        for child in module.children():
            to_eval_mode(child)


def require_made_in_eval_mode(module: nn.Module) -> None:
    """Checks what cannot be switched: an exported or traced program keeps the mode of its making.

    Raises:
        ValueError: for a program that was exported or traced in training mode.
    """
    for part in module.modules():
        for operator, arguments in _calls(part):
            if any(arguments.get(name) is True for name in _TRAINING):
                raise ValueError(
                    f"expected model to be exported in eval mode, got {operator} in training mode, whose answers "
                    "depend on more than the query; call .eval() before torch.export.export or torch.jit.trace"
                )


def _calls(module: nn.Module) -> Iterator[tuple[str, dict[str, Any]]]:
    """The operators that a program's graph calls, and those of their arguments that are constants."""
    if isinstance(module, fx.GraphModule):
        for node in module.graph.nodes:
            arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
            names = [argument.name for argument in arguments]
            yield str(node.target), dict(zip(names, node.args, strict=False))
    elif isinstance(module, torch.jit.ScriptModule) and hasattr(module, "inlined_graph"):
        for node in module.inlined_graph.nodes():
            if node.kind().startswith("aten::") and node.schema() != "(no schema)":
                names = [
                    argument.name for argument in torch._C.parse_schema(node.schema()).arguments
                ]
                constants = [value.toIValue() for value in node.inputs()]
                yield node.kind(), dict(zip(names, constants, strict=False))


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
