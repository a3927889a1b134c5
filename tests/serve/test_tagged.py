"""Property: whatever the upstream answers, no undefended number is in any byte of what the client gets.

Every number of the upstream is tagged: it has digits that no defended number has. A document of each protocol is
mutated: values are replaced, moved, turned into texts and keys, repeated and dropped; so are status and headers.
"""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from later import fewer
from serving import PATH, proxied, settings_of

from mipoison.defenses import Rounding

# (Two of them, and none else, in each number.)
TAGS = ("7391", "4826")
# Probability vectors of tagged numbers.
TAGGED = [[0.57391, 0.14826, 0.27783], [0.14826, 0.27783, 0.57391]]
# (As NumPy prints arrays.)
NUMPY = ["[7391.e-04 4826.e-04]", "7391.E-04", "[4826. 7391.]"]
SCORES = [f"{x:.5f}" for row in TAGGED for x in row]
DOCUMENTS: dict[str, tuple[Any, dict[str, Any]]] = {
    "v2": (
        {
            "id": "a-1",
            "model_name": "m",
            "outputs": [
                {
                    "name": "probs",
                    "datatype": "FP32",
                    "shape": [2, 3],
                    "data": [x for row in TAGGED for x in row],
                }
            ],
        },
        {},
    ),
    "tfserving": ({"predictions": TAGGED}, {}),
    "mlflow": ({"predictions": [{"p": row, "s": row[0]} for row in TAGGED]}, {"output": "p"}),
    "torchserve": (
        [dict(zip("abc", row, strict=True)) for row in TAGGED],
        {"labels": ("a", "b", "c")},
    ),
    "path": (
        {"r": {"items": [{"s": row, "t": row[1]} for row in TAGGED]}},
        {"path": "r.items[*].s"},
    ),
}
LEAVES = st.one_of(
    st.sampled_from([x for row in TAGGED for x in row]),
    st.sampled_from(SCORES),
    st.sampled_from(
        [f"score {SCORES[0]}", f"[{SCORES[0]},{SCORES[1]}]", SCORES[1][1:], "5.7391e-1", *NUMPY]
    ),
    st.sampled_from([TAGGED, TAGGED[0], [], {}, None, True, "", "probs", 0, 1, -1, 2.57391, 1e300]),
    st.sampled_from(SCORES).map(lambda score: {score: 1, "name": score}),
    st.lists(st.sampled_from(TAGGED[0]), max_size=4),
)
NAMES = st.sampled_from(
    [
        "id",
        "model_name",
        "model_version",
        "parameters",
        "name",
        "error",
        "predictions",
        "outputs",
        "data",
        "shape",
        "x",
        *SCORES,
        *NUMPY,
    ]
)
HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "retry-after",
            "x-request-id",
            "www-authenticate",
            "cache-control",
            "allow",
            "x-scores",
            "etag",
            "set-cookie",
        ]
    ),
    st.sampled_from([*SCORES, *NUMPY, "7", "no-store"]),
    max_size=3,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every holder and key in a document."""
    if isinstance(document, dict):
        items: list[tuple[Any, Any]] = list(document.items())
    elif isinstance(document, list):
        items = list(enumerate(document))
    else:
        return []
    return [(document, key) for key, _ in items] + [
        place for _, value in items for place in places(value)
    ]


@st.composite
def mutated(draw: st.DrawFn) -> tuple[str, Any]:
    protocol = draw(st.sampled_from(sorted(DOCUMENTS)))
    if draw(st.integers(0, 5)) == 0:
        return protocol, {"error": copy.deepcopy(draw(LEAVES))}
    document = copy.deepcopy({"top": DOCUMENTS[protocol][0]})
    for _ in range(draw(st.integers(0, 3))):
        holder, key = draw(st.sampled_from(places(document)))
        action = draw(st.sampled_from(["replace", "add", "drop", "wrap", "text"]))
        if action == "replace":
            holder[key] = copy.deepcopy(draw(LEAVES))
        elif action == "wrap":
            holder[key] = [holder[key]]
        elif action == "text":
            holder[key] = json.dumps(holder[key])
        elif action == "add" and isinstance(holder[key], dict):
            holder[key][draw(NAMES)] = copy.deepcopy(draw(LEAVES))
        elif action == "add" and isinstance(holder[key], list):
            holder[key].append(copy.deepcopy(draw(LEAVES)))
        elif action == "drop" and isinstance(holder, dict) and holder is not document:
            del holder[key]
    return protocol, document["top"]


def bytes_of(response: httpx.Response) -> bytes:
    headers = b"\n".join(name + b": " + value for name, value in response.headers.raw)
    try:
        # (Escapes could hide digits.)
        body = json.dumps(response.json(), ensure_ascii=False).encode()
    except ValueError:
        body = b""
    return headers + b"\n" + response.content + b"\n" + body


def served(
    protocol: str, body: bytes, status: int, headers: dict[str, str], kind: str
) -> httpx.Response:
    options = DOCUMENTS[protocol][1]

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, content=body, headers={"content-type": kind, **headers})

    async def ask() -> httpx.Response:
        made = settings_of(protocol, pass_headers=("X-Scores",), pass_error_bodies=True, **options)
        async with proxied(made, handle, answer=None, defense=Rounding(1)) as client:
            return await client.post(PATH)

    return asyncio.run(ask())


@pytest.mark.parametrize("protocol", sorted(DOCUMENTS))
def test_tagged_vectors_are_served_without_their_tags(protocol: str) -> None:
    """The documents are good, and the tags are found where nothing defends them."""
    body = json.dumps(DOCUMENTS[protocol][0]).encode()
    got = served(protocol, body, 200, {}, "application/json")
    assert got.status_code == 200 and any(tag.encode() in body for tag in TAGS)
    assert not any(tag.encode() in bytes_of(got) for tag in TAGS)


@example(("mlflow", {"0.57391": 1, "name": "0.57391"}), 400, {}, "text/plain", "escaped")
@settings(
    max_examples=fewer(300, 5000), deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
@given(
    mutated(),
    st.sampled_from([200, 200, 200, 200, 201, 206, 302, 400, 404, 422, 500, 503]),
    HEADERS,
    st.sampled_from(
        ["application/json"] * 4
        + ["application/json; charset=utf-8", "text/plain", "text/html", "application/problem+json"]
    ),
    st.sampled_from(["whole"] * 4 + ["cut", "bytes", "escaped"]),
)
def test_no_tagged_number_leaves(
    document: tuple[str, Any], status: int, headers: dict[str, str], kind: str, form: str
) -> None:
    protocol, content = document
    body = json.dumps(content).encode()
    if form == "cut":
        body = body[: 2 * len(body) // 3]
    elif form == "bytes":
        body = body.decode().encode("utf-16")
    elif form == "escaped":
        body = body.replace(b'"0.', b'"\\u0030\\u002e')
    got = served(protocol, body, status, headers, kind)
    assert not any(tag.encode() in bytes_of(got) for tag in TAGS)
    assert got.status_code >= 400 or status == 200
