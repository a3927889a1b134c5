"""Every protocol: where its vectors are, what goes out, and why a document is refused."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from mipoison.serve.config.settings import Answers
from mipoison.serve.documents.document import (
    read_json,
    write_json,
)
from mipoison.serve.documents.protocols import protocol_of
from mipoison.serve.documents.vectors import Answered, nothing
from mipoison.serve.failures import Refused

P = [[0.7, 0.2, 0.1], [0.3, 0.3, 0.4]]
Q = [[0.6, 0.3, 0.1], [0.25, 0.3, 0.45]]
ONE, ANSWER = P[0], Q[0]
LABELS = ("cat", "dog", "eel")
MAPPED = [dict(zip(LABELS, row, strict=True)) for row in P]
# In another order than that of the classes, as TorchServe has them.
SORTED = [{"eel": 0.4, "dog": 0.3, "cat": 0.3}, {"cat": 0.7, "eel": 0.1, "dog": 0.2}]


def v2(data: Any = None, **changes: Any) -> dict[str, Any]:
    flat = [0.7, 0.2, 0.1, 0.3, 0.3, 0.4]
    output = {"name": "probs", "datatype": "FP32", "shape": [2, 3], "data": data or flat}
    return {"model_name": "m", "outputs": [{**output, **changes}]}


FLAT = [0.6, 0.3, 0.1, 0.25, 0.3, 0.45]
OUT = {"name": "probs", "datatype": "FP32", "shape": [2, 3], "data": FLAT}
TWO = [*v2()["outputs"], {"name": "label", "datatype": "INT64", "shape": [2], "data": [0, 2]}]
# (protocol, settings, the upstream's document, what goes out)
GOOD: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("v2", {}, v2(), {"model_name": "m", "outputs": [OUT]}),
    ("v2", {}, v2(P), {"model_name": "m", "outputs": [{**OUT, "data": Q}]}),
    (
        "v2",
        {},
        {
            **v2(),
            "id": "a-1",
            "model_version": "1.0.2",
            "extra": 0.73,
            "parameters": {"content_type": "np", "x": 0.73},
        },
        {
            "id": "a-1",
            "model_name": "m",
            "model_version": "1.0.2",
            "parameters": {"content_type": "np"},
            "outputs": [OUT],
        },
    ),
    # A text that looks like a score is dropped.
    ("v2", {}, {**v2(), "id": "0.73", "model_name": "is .7"}, {"outputs": [OUT]}),
    (
        "v2",
        {},
        v2(parameters={"content_type": "np", "scores": [0.7]}),
        {"model_name": "m", "outputs": [{**OUT, "parameters": {"content_type": "np"}}]},
    ),
    ("v2", {"output": "probs"}, {"outputs": TWO}, {"outputs": [OUT]}),
    ("v2", {"pass_fields": ("label",)}, {"outputs": TWO}, {"outputs": [OUT, TWO[1]]}),
    ("tfserving", {}, {"predictions": P}, {"predictions": Q}),
    ("tfserving", {}, {"outputs": P, "more": 0.73}, {"outputs": Q}),
    ("tfserving", {"output": "p"}, {"outputs": {"p": P, "logits": P}}, {"outputs": {"p": Q}}),
    (
        "tfserving",
        {"output": "p", "pass_fields": ("label",)},
        {"predictions": [{"p": row, "label": i, "z": row} for i, row in enumerate(P)]},
        {"predictions": [{"label": i, "p": row} for i, row in enumerate(Q)]},
    ),
    ("tfserving", {"output": "p"}, {"predictions": P}, {"predictions": Q}),
    ("mlflow", {}, {"predictions": P, "metadata": [0.73]}, {"predictions": Q}),
    (
        "mlflow",
        {"labels": LABELS},
        {"predictions": MAPPED},
        {"predictions": [dict(zip(LABELS, row, strict=True)) for row in Q]},
    ),
    ("torchserve", {}, P, Q),
    ("path", {"path": "$"}, P, Q),
    ("path", {"path": "a.b"}, {"a": {"b": P, "c": 1}, "d": 0.73}, {"a": {"b": Q}}),
    (
        "path",
        {"path": "items[*].scores", "pass_fields": ("id",)},
        {"items": [{"id": 1, "scores": P[0], "x": 0.73}, {"id": 2, "scores": P[1]}], "id": "i"},
        {"id": "i", "items": [{"id": 1, "scores": Q[0]}, {"id": 2, "scores": Q[1]}]},
    ),
    ("path", {"path": '["a b"][*]'}, {"a b": P}, {"a b": Q}),
    ("path", {"path": "[*][*]"}, [[P[0]], [P[1]]], [[Q[0]], [Q[1]]]),
]
SINGLE: list[tuple[str, dict[str, Any], Any, Any]] = [
    ("torchserve", {}, ONE, ANSWER),
    (
        "torchserve",
        {"labels": LABELS},
        {"dog": 0.2, "eel": 0.1, "cat": 0.7},
        dict(zip(LABELS, ANSWER, strict=True)),
    ),
    (
        "v2",
        {},
        v2(ONE, shape=[3]),
        {"model_name": "m", "outputs": [{**OUT, "shape": [3], "data": ANSWER}]},
    ),
    ("path", {"path": "p"}, {"p": ONE}, {"p": ANSWER}),
]
NONE: list[tuple[str, Any]] = [
    ("v2", {"outputs": [{"name": "probs", "datatype": "FP64", "shape": [0, 3], "data": []}]}),
    ("tfserving", {"predictions": []}),
    ("mlflow", {"predictions": []}),
    ("torchserve", []),
]


def read(protocol: str, options: dict[str, Any], document: Any) -> Any:
    found = protocol_of(Answers(protocol=protocol, **options)).read(read_json(write_json(document)))
    return found


@pytest.mark.parametrize(("protocol", "options", "document", "expected"), GOOD)
def test_vectors_are_replaced_and_other_fields_dropped(
    protocol: str, options: dict[str, Any], document: Any, expected: Any
) -> None:
    found = read(protocol, options, document)
    assert found.rows.dtype == np.float64 and found.rows.tolist() == P
    out = write_json(found.write(Answered(np.array(Q))))
    assert json.loads(out) == expected and b"0.73" not in out
    assert found.dropped == sum_of_keys(document) - sum_of_keys(expected)


def sum_of_keys(document: Any) -> int:
    """Fields of a document on the way to the vectors; an output is one, and so is all that is dropped with a field."""
    if (
        isinstance(document, dict)
        and "outputs" in document
        and isinstance(document["outputs"], list)
    ):
        outputs = document["outputs"]
        if outputs and isinstance(outputs[0], dict):
            return len(document) + len(outputs) - 1
    if isinstance(document, dict):
        return sum(1 + sum_of_keys(value) for value in document.values())
    if isinstance(document, list):
        return sum(map(sum_of_keys, document))
    return 0


@pytest.mark.parametrize(("protocol", "options", "document", "expected"), SINGLE)
def test_single_vectors_stay_single(
    protocol: str, options: dict[str, Any], document: Any, expected: Any
) -> None:
    found = read(protocol, options, document)
    assert found.rows.tolist() == [ONE]
    assert found.write(Answered(np.array([ANSWER]))) == expected


@pytest.mark.parametrize(("protocol", "document"), NONE)
def test_no_rows_are_no_rows(protocol: str, document: Any) -> None:
    found = read(protocol, {}, document)
    assert len(found.rows) == 0 and found.write(nothing(None)) == document


def test_labels_set_the_order_of_classes() -> None:
    found = read("torchserve", {"labels": LABELS}, SORTED)
    assert found.rows.tolist() == [[0.3, 0.3, 0.4], [0.7, 0.2, 0.1]]
    out = write_json(found.write(Answered(np.array(Q))))
    assert out == b'[{"cat":0.6,"dog":0.3,"eel":0.1},{"cat":0.25,"dog":0.3,"eel":0.45}]'


def test_one_hot_integers_are_vectors() -> None:
    assert read("mlflow", {}, {"predictions": [[0, 1], [1, 0]]}).rows.tolist() == [[0, 1], [1, 0]]


TOP = Answered(np.array([[0.6, 0.3], [0.5, 0.3]]), np.array([[0, 1], [2, 1]]), np.array([0.1, 0.2]))


def test_top_k_of_each_protocol() -> None:
    first = {"values": [0.6, 0.3], "classes": [0, 1], "rest": 0.1}
    second = {"values": [0.5, 0.3], "classes": [2, 1], "rest": 0.2}
    assert read("mlflow", {}, {"predictions": P}).write(TOP) == {"predictions": [first, second]}
    assert read("torchserve", {}, ONE).write(TOP.part(0, 1)) == first
    named = read("torchserve", {"labels": LABELS}, MAPPED).write(TOP)
    assert named == [{**first, "classes": ["cat", "dog"]}, {**second, "classes": ["eel", "dog"]}]
    assert read("v2", {}, v2()).write(TOP)["outputs"] == [
        {"name": "probs_values", "datatype": "FP32", "shape": [2, 2], "data": [0.6, 0.3, 0.5, 0.3]},
        {"name": "probs_classes", "datatype": "INT64", "shape": [2, 2], "data": [0, 1, 2, 1]},
        {"name": "probs_rest", "datatype": "FP32", "shape": [2], "data": [0.1, 0.2]},
    ]
    alone = read("v2", {}, v2(ONE, shape=[3])).write(TOP.part(1, 2))["outputs"]
    assert [(part["shape"], part["data"]) for part in alone] == [
        ([2], [0.5, 0.3]),
        ([2], [2, 1]),
        ([1], [0.2]),
    ]
    none = {"name": "p", "datatype": "FP32", "shape": [0, 3], "data": []}
    for top_k, width in ((2, 2), (9, 3)):
        empty = read("v2", {"top_k": top_k}, {"outputs": [none]}).write(nothing(top_k))["outputs"]
        assert [part["shape"] for part in empty] == [[0, width], [0, width], [0]]


REFUSED: list[tuple[str, dict[str, Any], Any, str]] = [
    ("v2", {}, [], "an object with a list of outputs"),
    ("v2", {}, {"outputs": {}}, "an object with a list of outputs"),
    ("v2", {}, {"outputs": []}, "got 0"),
    ("v2", {}, {"outputs": [1]}, "outputs with names"),
    ("v2", {}, {"outputs": TWO}, "got 2"),
    ("v2", {"output": "other"}, v2(), "got 0"),
    ("v2", {"output": "probs"}, {"outputs": [*TWO, TWO[0]]}, "got 2"),
    ("v2", {}, v2(name="0.73"), "looks like a score"),
    ("v2", {}, v2(parameters={"binary_data_size": 24}), "binary extension"),
    (
        "v2",
        {},
        {"outputs": [{"name": "p", "shape": [1, 2], "datatype": "FP32"}]},
        "binary extension",
    ),
    ("v2", {}, v2(datatype="BYTES"), "a datatype out of"),
    ("v2", {}, v2(datatype="INT64"), "a datatype out of"),
    ("v2", {}, v2(shape=[2, 3, 1]), "of shape"),
    ("v2", {}, v2(shape=[6, 1]), "of shape"),
    ("v2", {}, v2(shape=[True, 3]), "of shape"),
    ("v2", {}, v2(shape=[-1, 3]), "of shape"),
    ("v2", {}, v2(shape="23"), "of shape"),
    ("v2", {}, v2(shape=[2, 4]), "as many data as the shape"),
    ("v2", {}, v2(shape=[3, 2], data=P), "as many data as the shape"),
    ("v2", {}, v2(data=[[0.7, 0.2, 0.1], [0.5, 0.5]]), "of one length"),
    ("v2", {}, v2(data=[0.7, 0.2, 0.1, 0.3, 0.3, "0.4"]), "got a text"),
    ("tfserving", {}, {}, "predictions or outputs"),
    ("tfserving", {}, {"predictions": P, "outputs": P}, "got both"),
    ("tfserving", {}, {"predictions": {"p": P}}, "answers] output"),
    ("tfserving", {"output": "p"}, {"outputs": {"q": P}}, "outputs.p"),
    ("mlflow", {}, P, "got a list without"),
    ("mlflow", {}, {"predictions": None}, "got null"),
    ("mlflow", {}, {"predictions": 0.5}, "got a number"),
    ("mlflow", {}, {"predictions": "0.7 0.3"}, "got a text"),
    ("mlflow", {}, {"predictions": [0.5]}, "got 1"),
    ("mlflow", {}, {"predictions": [[0.5], [0.4]]}, "got 1"),
    ("mlflow", {}, {"predictions": [[]]}, "got 0"),
    ("mlflow", {}, {"predictions": [[0.5, 0.5], [0.2, 0.3, 0.5]]}, "several lengths"),
    ("mlflow", {}, {"predictions": [[0.5, 0.5], 0.5]}, "another kind among them"),
    ("mlflow", {}, {"predictions": [[0.5, "0.5"]]}, "got a text"),
    ("mlflow", {}, {"predictions": [[0.5, None]]}, "got null"),
    ("mlflow", {}, {"predictions": [[True, False]]}, "got true or false"),
    ("mlflow", {}, {"predictions": [[[0.5, 0.5]]]}, "got a list"),
    ("mlflow", {}, {"predictions": [[10**400, 0]]}, "finite"),
    ("mlflow", {}, {"predictions": MAPPED}, "answers] labels"),
    ("mlflow", {"labels": LABELS}, {"predictions": [{"cat": 0.7, "dog": 0.2}]}, "top-k"),
    (
        "mlflow",
        {"labels": LABELS},
        {"predictions": [{"cat": 0.7, "dog": 0.2, "fox": 0.1}]},
        "top-k",
    ),
    ("mlflow", {"labels": LABELS}, {"predictions": [MAPPED[0], P[1]]}, "top-k"),
    ("torchserve", {"labels": LABELS}, {"cat": 0.7, "dog": 0.2, "eel": "0.1"}, "got a text"),
    ("torchserve", {}, "ok", "got a text"),
    ("path", {"path": "a.b"}, {"a": {"c": P}}, "expected a.b"),
    ("path", {"path": "a.b"}, {"a": [P]}, "an object at a"),
    ("path", {"path": "a[*].b"}, {"a": {"b": P}}, "a list at a"),
    ("path", {"path": "a[*]"}, {"a": [[0.5, 0.5], [0.2, 0.3, 0.5]]}, "several lengths"),
]


@pytest.mark.parametrize(("protocol", "options", "document", "said"), REFUSED)
def test_other_documents_are_refused_without_their_content(
    protocol: str, options: dict[str, Any], document: Any, said: str
) -> None:
    with pytest.raises(Refused) as caught:
        read(protocol, options, document)
    assert caught.value.reason == "upstream_document" and caught.value.status == 502
    assert said in caught.value.sentence
    assert all(text not in caught.value.sentence for text in ("0.7", "0.2", "0.5", "0.1"))


def test_a_number_beyond_float64_is_refused() -> None:
    with pytest.raises(Refused, match="finite"):
        protocol_of(Answers(protocol="torchserve")).read(read_json(b"[[1e999, 0]]"))
