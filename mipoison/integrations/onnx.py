"""Exported programs without operators of this package, for ONNX Runtime and wherever mipoison is not installed.

The operators are replaced by their references, which are plain PyTorch. A root search becomes a loop of the graph.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch.export import ExportedProgram

from mipoison.ops.library import REFERENCE

# Those that a defense without a key leaves in an exported program.
_REPLACED: Final = ("project", "move", "quantize", "lead", "distance", "lose_label")
# Where `project` takes its radius.
_EPSILON: Final = 3


def to_onnx(program: ExportedProgram, **options: Any) -> torch.onnx.ONNXProgram:
    """Translates an exported `Defended` to ONNX, in standard operators alone.

    Args:
        program: see `standard_operators`.
        options: of `torch.onnx.export`, such as f, the path to write to.

    Returns:
        what `torch.onnx.export` returns; `save` writes it.

    Raises:
        ImportError: without onnx and onnxscript.
        ValueError: see `standard_operators`.
    """
    try:
        import onnxscript
        from onnxscript import ir
    except ImportError as error:
        raise ImportError(
            "expected onnx and onnxscript, got none; pip install 'mipoison[onnx]'"
        ) from error

    def scalar_tensor(s: float, dtype: int = ir.DataType.FLOAT, **_: Any) -> Any:
        # The exporter's own translation rounds to float32 first: 1e200 would be infinite.
        return onnxscript.opset18.Constant(value=ir.tensor(s, ir.DataType(dtype)))

    def sort(rows: Any, *, descending: bool = False, **_: Any) -> Any:
        # The exporter has no stable sort. TopK is one, by its definition; defenses sort along the last dimension.
        op = onnxscript.opset18
        return op.TopK(rows, op.Shape(rows, start=-1), axis=-1, largest=int(descending), sorted=1)

    table: dict[Callable[..., Any], Callable[..., Any]] = {
        torch.ops.aten.scalar_tensor.default: scalar_tensor,
        torch.ops.aten.sort.stable: sort,
    }
    table |= options.pop("custom_translation_table", {})
    made = torch.onnx.export(
        standard_operators(program), dynamo=True, custom_translation_table=table, **options
    )
    assert made is not None
    return made


def standard_operators(program: ExportedProgram) -> ExportedProgram:
    """Replaces the operators of this package in an exported program by operators of PyTorch.

    The answers are those of the program, up to the last bits of sums that are taken in another order.

    Args:
        program: what `torch.export.export` made of a `Defended`, or of a defense, without a key.

    Returns:
        a program that loads and runs without the package.

    Raises:
        ValueError: for a projection inside a ball, or an operator that no defense leaves in such a program.

    Example:
        >>> import mipoison as mp, torch
        >>> from mipoison.defenses import LabelOnly
        >>> served = mp.Defended(torch.nn.Softmax(1), LabelOnly(margin=0), validate=False)
        >>> x = torch.randn(5, 4)
        >>> program = standard_operators(torch.export.export(served, (x,)))
        >>> torch.equal(program.module()(x), served(x))
        True
    """
    for node in program.graph.nodes:
        name = _name_of(node.target)
        if name is not None and name not in _REPLACED:
            raise ValueError(
                f"expected operators of a defense without a key ({', '.join(_REPLACED)}), got {name}; "
                "export a Defended with validate=False"
            )
        if name == "project" and node.args[_EPSILON] is not None:
            raise ValueError(
                f"expected no projection inside a ball, got one of radius {node.args[_EPSILON]:g}: its root searches "
                "are nested, and torch.export refuses nested loops; use a defense without epsilon, or one with margin=0"
            )
    table: dict[Any, Callable[..., Any]] = dict(torch.export.default_decompositions())
    for name in _REPLACED:
        table[getattr(torch.ops.mipoison, name).default] = REFERENCE[name]
    replaced: ExportedProgram = program.run_decompositions(table)
    return replaced


def _name_of(target: Any) -> str | None:
    """The name of an operator of this package; None for every other one."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "mipoison":
        return None
    return str(target._schema.name.partition("::")[2])
