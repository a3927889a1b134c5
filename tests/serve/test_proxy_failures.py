"""The status and the sentence of every failure, and errors of the upstream."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from serving import PATH, asked, body_of, json_of, moved, proxied, run, settings_of

from mipoison.defenses import Rounding
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.failures import RETRY, STATUS, Refused

P = [[0.7123, 0.1877, 0.1], [0.3, 0.3, 0.4]]
GOOD = json_of({"predictions": P})
ALLOWED = {"content-type", "content-length", "x-request-id"}


# Failures: (what is changed in the settings, the upstream, the request, reason, a part of the sentence)
def raising(error: type[Exception]) -> Any:
    def handle(request: httpx.Request) -> httpx.Response:
        raise error("0.7123 is what came")

    return handle


def broken_body(_: httpx.Request) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"predictions": [[0.7123,'
        raise httpx.ReadError("0.7123")

    return httpx.Response(200, content=chunks(), headers={"content-type": "application/json"})


async def hanging(_: httpx.Request) -> httpx.Response:
    await asyncio.sleep(60)
    raise AssertionError


def hanging_body(_: httpx.Request) -> httpx.Response:
    async def chunks() -> AsyncIterator[bytes]:
        yield b'{"predictions": [[0.7123,'
        await asyncio.sleep(60)

    return httpx.Response(200, content=chunks(), headers={"content-type": "application/json"})


TEXT = json.dumps({"predictions": P}).encode()
BINARY = {"inference_header_content_length": "5"}
SLOW = {"timeout_s": 0.05}
FAILURES: list[tuple[str, dict[str, Any], Any, dict[str, Any], str]] = [
    ("bad_path", {}, GOOD, {"path": "/v1/models/%2e%2e/x"}, "plain segments"),
    ("bad_path", {}, GOOD, {"path": "/v1//models"}, "plain segments"),
    ("bad_path", {}, GOOD, {"path": "/v1/models/m%3Apredict"}, "plain segments"),
    ("bad_path", {}, GOOD, {"path": f"{PATH};x"}, "plain segments"),
    ("bad_path", {}, GOOD, {"path": f"{PATH}."}, "plain segments"),
    ("bad_path", {}, GOOD, {"path": "/v1/.../m"}, "plain segments"),
    ("not_listed", {}, GOOD, {"path": "/v1/models/m"}, "[routes] defend or pass_paths"),
    ("not_listed", {}, GOOD, {"path": "/V1/models/m:predict"}, "[routes] defend"),
    ("method_not_listed", {}, GOOD, {"method": "GET"}, "expected POST"),
    ("method_not_listed", {}, GOOD, {"method": "HEAD"}, ""),
    ("method_not_listed", {}, GOOD, {"method": "OPTIONS"}, "expected POST"),
    ("method_not_listed", {}, GOOD, {"method": "BREW"}, "expected POST"),
    ("identity", {"identity_header": "X-Account"}, GOOD, {}, "X-Account once"),
    (
        "identity",
        {"identity_header": "X-Account"},
        GOOD,
        {"headers": {"x-account": " "}},
        "an empty one",
    ),
    (
        "identity",
        {"identity_header": "X-Account"},
        GOOD,
        {"headers": [("x-account", "a"), ("X-Account", "b")]},
        "got 2 of them",
    ),
    (
        "identity",
        {"identity_header": "X-Account"},
        GOOD,
        {"headers": {"x-account": "eve-1, alice"}},
        "without a comma",
    ),
    ("request_too_large", {"max_request_bytes": 10}, GOOD, {"content": b"x" * 11}, "10 bytes"),
    ("too_many_rows", {"max_queued_rows": 1}, GOOD, {}, "at most 1 inputs"),
    ("upstream_unreachable", {}, raising(httpx.ConnectError), {}, "may be down"),
    ("upstream_timeout", {}, raising(httpx.ConnectTimeout), {}, "got nothing"),
    ("upstream_timeout", {}, raising(httpx.ReadTimeout), {}, "got nothing"),
    ("upstream_timeout", SLOW, hanging, {}, "within 0.05 s"),
    ("upstream_timeout", SLOW, hanging_body, {}, "within 0.05 s"),
    ("upstream_broke", {}, raising(httpx.RemoteProtocolError), {}, "whole HTTP answer"),
    ("upstream_broke", {}, raising(httpx.ReadError), {}, "whole HTTP answer"),
    ("upstream_broke", {}, broken_body, {}, "whole HTTP answer"),
    ("internal", {}, raising(KeyError), {}, "the proxy failed"),
    ("upstream_redirect", {}, body_of(b"", 302, location="/0.7123"), {}, "not followed"),
    ("upstream_redirect", {}, body_of(b"", 304), {}, "not followed"),
    ("upstream_status", {}, body_of(TEXT, 206), {}, "got 206"),
    ("upstream_status", {}, body_of(b"", 204), {}, "got 204"),
    ("upstream_status", {}, body_of(b"", 700), {}, "200 to 599"),
    ("upstream_content_type", {}, body_of(TEXT, content_type="text/plain"), {}, "application/json"),
    (
        "upstream_content_type",
        {},
        body_of(TEXT, content_type="text/event-stream"),
        {},
        "application/json",
    ),
    ("upstream_not_json", {}, body_of(b"0.7123 0.2877", content_type=""), {}, "JSON document"),
    ("upstream_content_type", {}, body_of(TEXT, **BINARY), {}, "binary_data"),
    ("upstream_encoding", {}, body_of(TEXT, content_encoding="br"), {}, "compressed"),
    ("upstream_too_large", {"max_response_bytes": 10}, GOOD, {}, "at most 10 bytes"),
    ("upstream_not_json", {}, body_of(b'{"predictions": [[0.7123,'), {}, "JSON document"),
    ("upstream_document", {}, json_of({"scores": P}), {}, "predictions"),
    (
        "upstream_not_probabilities",
        {},
        json_of({"predictions": [[0.7123, 0.1, 0.1], P[0]]}),
        {},
        "1 of 2 rows",
    ),
    (
        "upstream_classes",
        {"defense": True},
        json_of({"predictions": [[0.7123, 0.2877]]}),
        {},
        "K=3",
    ),
]


class OfThree(Rounding):
    """A defense that was fitted on three classes."""

    @property
    def classes(self) -> int | None:
        return 3


@pytest.mark.parametrize(("reason", "changes", "handler", "request_", "said"), FAILURES)
def test_every_failure_has_a_status_and_a_sentence(
    reason: str, changes: dict[str, Any], handler: Any, request_: dict[str, Any], said: str
) -> None:
    changes = dict(changes)
    defense = OfThree(2) if changes.pop("defense", False) else None
    got = asked(settings_of(**changes), handler, defense=defense, **request_)
    assert got.status_code == STATUS[reason]
    assert "0.7123" not in str(got.headers) and b"7123" not in got.content
    assert got.headers["content-type"] == "application/json"
    if request_.get("method") != "HEAD":
        told = got.json()
        assert set(told) == {"error", "reason", "request_id"} and told["reason"] == reason
        assert said in told["error"] and told["request_id"] == got.headers["x-request-id"]
    assert ("retry-after" in got.headers) == (reason in RETRY)
    if reason == "method_not_listed":
        assert got.headers["allow"] == "POST"


@pytest.mark.parametrize(
    "bad", [[0.5, 0.2, 0.1], [1.2, -0.1, -0.1], [0.0, 0.0, 0.0], [2.0, 1.0, 5.0]]
)
def test_rows_that_are_no_vectors_are_not_served(bad: list[float]) -> None:
    got = asked(settings_of(), json_of({"predictions": [P[1], bad]}))
    assert (got.status_code, got.json()["reason"]) == (502, "upstream_not_probabilities")


def test_a_chunked_body_that_is_too_large_is_refused() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x" * 5

    got = asked(settings_of(max_request_bytes=10), GOOD, content=chunks())
    assert got.status_code == 413 and got.headers["connection"] == "close"


def test_a_body_that_does_not_arrive_is_not_waited_for() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"x"
        await asyncio.sleep(60)

    got = asked(settings_of(request_timeout_s=0.05), GOOD, content=chunks())
    assert (got.status_code, got.json()["reason"]) == (408, "request_timeout")


def broken(rows: Array, ids: Any) -> Answered:
    raise ValueError("expected probabilities, got 0.7123")


def drifting(rows: Array, ids: Any) -> Answered:
    raise Refused("drift", "expected rows like those of the fit")


def slow(rows: Array, ids: Any) -> Answered:
    import time

    time.sleep(0.3)
    return moved(rows, ids)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [(broken, "internal"), (drifting, "drift"), (slow, "defense_timeout")],
)
def test_a_defense_that_fails_answers_nothing(answer: Any, reason: str) -> None:
    got = asked(settings_of(defense_timeout_s=0.05), GOOD, answer=answer)
    assert (got.status_code, got.json()["reason"]) == (STATUS[reason], reason)
    assert b"7123" not in got.content


def test_too_many_requests_are_refused() -> None:
    async def work() -> None:
        gate = asyncio.Event()

        async def handle(_: httpx.Request) -> httpx.Response:
            await gate.wait()
            return httpx.Response(200, json={"predictions": P})

        async with proxied(settings_of(max_concurrent=1), handle) as client:
            first = asyncio.create_task(client.post(PATH))
            await asyncio.sleep(0.05)
            second = await client.post(PATH)
            gate.set()
            assert (await first).status_code == 200
            assert (second.status_code, second.json()["reason"]) == (503, "too_busy")
            assert second.headers["retry-after"] == "1"
            assert (await client.post(PATH)).status_code == 200

    run(work())


def test_bodies_that_arrive_slowly_keep_no_other_request_out() -> None:
    async def work() -> None:
        rest = asyncio.Event()

        async def slowly() -> AsyncIterator[bytes]:
            yield b"{"
            await rest.wait()
            yield b"}"

        async with proxied(settings_of(max_concurrent=1), GOOD) as client:
            waiting = [asyncio.create_task(client.post(PATH, content=slowly())) for _ in range(3)]
            await asyncio.sleep(0.05)
            assert (await client.post(PATH)).status_code == 200
            waiting.append(asyncio.create_task(client.post(PATH, content=slowly())))
            await asyncio.sleep(0.05)
            assert (await client.post(PATH)).json()["reason"] == "too_busy"
            rest.set()
            for response in await asyncio.gather(*waiting):
                assert response.status_code in (200, 503)
            assert (await client.post(PATH)).status_code == 200

    run(work())


# Errors of the upstream.


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
def test_harmless_errors_pass_unchanged(status: int) -> None:
    body = b'{ "error": "model m is not ready" }'
    got = asked(
        settings_of(pass_error_bodies=True),
        body_of(body, status, retry_after="7", set_cookie="a=1"),
    )
    assert (got.status_code, got.content) == (status, body)
    assert set(got.headers) == ALLOWED | {"retry-after"} and got.headers["retry-after"] == "7"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (TEXT, "application/json"),
        (b"got 0.7123", "text/plain"),
        (b"<p>not found</p>", "text/html"),
        (b"x" * 20_000, "text/plain"),
    ],
)
def test_other_errors_keep_their_status_alone(body: bytes, kind: str) -> None:
    got = asked(settings_of(pass_error_bodies=True), body_of(body, 500, kind, retry_after="0.7123"))
    assert got.status_code == 500 and got.json()["reason"] == "upstream_error"
    assert body not in got.content and "7123" not in str(got.headers) and b"7123" not in got.content


@pytest.mark.parametrize("body", [b'{"cat":73,"dog":27}', b'["cat","dog"]', b'{"error": "busy"}'])
def test_no_error_body_passes_unless_that_is_on(body: bytes) -> None:
    got = asked(settings_of(), body_of(body, 503))
    assert got.status_code == 503 and got.json()["reason"] == "upstream_error"
    assert body not in got.content
