"""The KServe V2 protocol, also called Open Inference Protocol, in its JSON form."""

from __future__ import annotations

from math import prod
from typing import Any, Final

import numpy as np
import torch

from mipoison.reference.rounding import SUM_TOLERANCE
from mipoison.serve.documents.document import is_harmless
from mipoison.serve.documents.vectors import (
    Answered,
    Array,
    Found,
    Protocol,
    name_of,
    numbers,
    rows_of,
)
from mipoison.serve.failures import Refused

_HALVES: Final = ("FP16", "BF16")
DATATYPES: Final = (*_HALVES, "FP32", "FP64")
_HALF_TOLERANCE: Final = SUM_TOLERANCE[torch.float16]
# Texts of the document that pass where nothing in them looks like a score.
_TEXTS: Final = ("id", "model_name", "model_version")
_CONTENT_TYPE: Final = "content_type"


class V2(Protocol):
    """`{"outputs": [{"name", "datatype", "shape": [N, K], "data"}]}`, with data flat or nested.

    With top-k the output is replaced by three: `<name>_values`, `<name>_classes` and `<name>_rest`.
    """

    def read(self, document: Any) -> Found:
        """See `Protocol.read`."""
        if not isinstance(document, dict) or not isinstance(document.get("outputs"), list):
            raise Refused(
                "upstream_document",
                f"expected an object with a list of outputs from the upstream, got {name_of(document)} without",
            )
        outputs: list[Any] = document["outputs"]
        if not all(
            isinstance(output, dict) and isinstance(output.get("name"), str) for output in outputs
        ):
            raise Refused("upstream_document", "expected outputs with names, got others among them")
        passing = self.answers.pass_fields
        at = self._chosen([output["name"] for output in outputs])
        chosen = outputs[at]
        rows = _rows(chosen)
        if chosen["datatype"] in _HALVES and self.answers.gives == "probabilities":
            rows = _renormalised(rows)

        made: dict[str, Any] = {
            key: document[key]
            for key in _TEXTS
            if isinstance(document.get(key), str) and is_harmless(document[key])
        }
        made |= {key: document[key] for key in passing if key in document}
        kept = _content_type(document)
        if kept and "parameters" not in made:
            made["parameters"] = kept
        kept_outputs = [output["name"] in passing or i == at for i, output in enumerate(outputs)]
        dropped = len(document) - 1 - len(made) + kept_outputs.count(False)

        def write(answered: Answered) -> Any:
            listed: list[Any] = []
            for i, output in enumerate(outputs):
                if i == at:
                    listed += _written(chosen, answered, self.answers.top_k)
                elif kept_outputs[i]:
                    listed.append(output)
            return {**made, "outputs": listed}

        return Found(rows, write, dropped)

    def _chosen(self, names: list[str]) -> int:
        """Which output holds the vectors."""
        wanted = self.answers.output
        if wanted is not None:
            found = [i for i, name in enumerate(names) if name == wanted]
            expected = "expected one output of the name in [answers] output"
        else:
            found = [i for i, name in enumerate(names) if name not in self.answers.pass_fields]
            expected = "expected one output, or the name of one of several in [answers] output"
        if len(found) != 1:
            raise Refused("upstream_document", f"{expected}, got {len(found)}")
        if not is_harmless(names[found[0]]):
            raise Refused(
                "upstream_document",
                "expected a name of the output without numbers, got one that looks like a score",
            )
        return found[0]


def _content_type(holder: dict[str, Any]) -> dict[str, Any]:
    """The parameter that says how a client decodes the data; no other parameter passes."""
    parameters = holder.get("parameters")
    kind = parameters.get(_CONTENT_TYPE) if isinstance(parameters, dict) else None
    return {_CONTENT_TYPE: kind} if isinstance(kind, str) and is_harmless(kind) else {}


def _rows(output: dict[str, Any]) -> Array:
    """The rows [N, K] of an output.

    Raises:
        Refused: if shape, datatype and data are not those of vectors, or the data is binary.
    """
    parameters = output.get("parameters")
    if "data" not in output or (isinstance(parameters, dict) and "binary_data_size" in parameters):
        raise Refused(
            "upstream_document",
            "expected the vectors as JSON data, got an output without or in the binary extension; ask for outputs "
            "with binary_data false",
        )
    if output.get("datatype") not in DATATYPES:
        raise Refused(
            "upstream_document",
            f"expected vectors of a datatype out of {', '.join(DATATYPES)}, got an output of another; name the output "
            "that holds probabilities in [answers] output",
        )
    shape, data = output.get("shape"), output["data"]
    if (
        not isinstance(shape, list)
        or not all(type(size) is int and 0 <= size < 2**31 for size in shape)
        or len(shape) not in (1, 2)
        or shape[-1] < 2
        or not isinstance(data, list)
    ):
        raise Refused(
            "upstream_document",
            "expected an output of shape [N, K] or [K] with K >= 2 and a list of data, got another shape or no list",
        )
    n, k = (1, shape[0]) if len(shape) == 1 else shape
    if _is_nested(output):
        rows = rows_of(data, "the data of the output")
        fits = rows.shape == (n, k)
    else:
        flat = numbers(data, "the data of the output")
        fits = len(flat) == prod(shape)
        rows = flat.reshape(n, k) if fits else flat
    if not fits:
        raise Refused(
            "upstream_document",
            "expected as many data as the shape of the output says, got more or fewer",
        )
    return rows if n else np.empty((0, 0))


def _renormalised(rows: Array) -> Array:
    """Rows of 16 bits with sum 1, which has an error of up to 1e-2 in them; others stay as they are.

    Later the rows are float64, whose tolerance is smaller.
    """
    total = rows.sum(axis=-1, keepdims=True)
    close = (rows >= 0).all(axis=-1, keepdims=True) & (np.abs(total - 1) <= _HALF_TOLERANCE)
    return np.where(close, rows / np.where(close, total, 1.0), rows)


def _is_nested(output: dict[str, Any]) -> bool:
    return bool(output["data"]) and isinstance(output["data"][0], list)


def _written(output: dict[str, Any], answered: Answered, top_k: int | None) -> list[dict[str, Any]]:
    """The output or, with top-k, the three outputs that go out."""
    parameters = _content_type(output)
    beside = {"parameters": parameters} if parameters else {}
    single = len(output["shape"]) == 1
    name, datatype = output["name"], output["datatype"]

    def tensor(name: str, datatype: str, values: Any, shape: list[int]) -> dict[str, Any]:
        nested = _is_nested(output) and len(shape) == 2 and not single
        data = values.tolist() if nested else values.reshape(-1).tolist()
        shape = shape[1:] if single else shape
        return {"name": name, "datatype": datatype, "shape": shape, **beside, "data": data}

    n = len(answered)
    classes = output["shape"][-1]
    # (No rows have no width of their own.)
    k = answered.values.shape[1] if n else min(top_k or classes, classes)
    if answered.classes is None or answered.rest is None:
        return [tensor(name, datatype, answered.values, [n, k])]
    rest = tensor(f"{name}_rest", datatype, answered.rest, [n])
    if single:
        rest["shape"] = [1]
    return [
        tensor(f"{name}_values", datatype, answered.values, [n, k]),
        tensor(f"{name}_classes", "INT64", answered.classes, [n, k]),
        rest,
    ]
