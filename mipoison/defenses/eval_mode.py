"""Put a model into eval mode, whatever it is made of: an answer must be a function of the query alone."""

from __future__ import annotations

from typing import Final

from torch import fx, nn

# What torch's operators call the argument that tells training from serving.
_TRAINING: Final = ("train", "training")


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
            _require_eval_mode(module)
        for child in module.children():
            to_eval_mode(child)


def _require_eval_mode(program: fx.GraphModule) -> None:
    for node in program.graph.nodes:
        arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
        for given, argument in zip(node.args, arguments, strict=False):
            if argument.name in _TRAINING and given is True:
                raise ValueError(
                    f"expected model to be exported in eval mode, got {node.target} in training mode, whose answers "
                    "depend on more than the query; call .eval() before torch.export.export"
                )
