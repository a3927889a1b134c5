"""The proxy end to end: what passes, and the status and sentence of every failure."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from serving import DEFEND, PATH, asked, body_of, json_of, moved, proxied, run, settings_of

from mipoison.defenses import Rounding
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.failures import RETRY, STATUS, Refused

P = [[0.7123, 0.1877, 0.1], [0.3, 0.3, 0.4]]
GOOD = json_of({"predictions": P})
ALLOWED = {"content-type", "content-length", "x-request-id"}


def test_vectors_go_out_defended() -> None:
    got = asked(settings_of(), GOOD)
    assert got.status_code == 200 and set(got.headers) == ALLOWED
    assert got.content == b'{"predictions":[[0.5228,0.2605,0.2167],[0.3167,0.3167,0.3667]]}'


def test_logits_are_softened_at_the_temperature() -> None:
    seen: list[Array] = []

    def answer(rows: Array, ids: Any) -> Answered:
        seen.append(rows)
        return moved(rows, ids)

    settings = settings_of(gives="logits", temperature=2.0)
    got = asked(settings, json_of({"predictions": [[2.0, 0.0, -1000]]}), answer=answer)
    assert got.status_code == 200
    e = 2.718281828459045
    assert seen[0].tolist()[0] == pytest.approx([e / (1 + e), 1 / (1 + e), 0.0], abs=1e-15)


def test_the_request_reaches_the_upstream_as_it_was_sent() -> None:
    seen: list[httpx.Request] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"predictions": P})

    sent = {
        "authorization": "Bearer t",
        "content-type": "image/png",
        "x-request-id": "abc-1",
        "connection": "x-secret, keep-alive",
        "x-secret": "1",
        "accept": "text/event-stream",
        "accept-encoding": "gzip",
        "range": "bytes=0-9",
        "x-http-method-override": "GET",
    }
    got = asked(settings_of(), handle, path=f"{PATH}?a=1&b=%2F", headers=sent, content=b"\x89PNG")
    (request,) = seen
    assert str(request.url) == f"http://upstream{PATH}?a=1&b=%2F" and request.content == b"\x89PNG"
    assert {
        name: request.headers[name] for name in ("authorization", "content-type", "x-request-id")
    } == {
        "authorization": "Bearer t",
        "content-type": "image/png",
        "x-request-id": "abc-1",
    }
    assert (request.headers["accept"], request.headers["accept-encoding"]) == (
        "application/json",
        "identity",
    )
    assert not {"x-secret", "range", "x-http-method-override"} & set(request.headers)
    assert got.headers["x-request-id"] == "abc-1"


def test_a_base_path_of_the_upstream_comes_first() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == f"/base{PATH}"
        return httpx.Response(200, json={"predictions": P})

    assert asked(settings_of(url="http://upstream/base/"), handle).status_code == 200


@pytest.mark.parametrize("given", ["a b", "a" * 129, "é", ""])
def test_other_request_ids_are_replaced(given: str) -> None:
    got = asked(settings_of(), GOOD, headers=[("x-request-id", given.encode("latin-1"))])  # type: ignore[list-item]
    assert len(got.headers["x-request-id"]) == 32


@pytest.mark.parametrize("query", ["a=[1]&b=%5B|{}", "x'y^`\\", "&&==", "a=b?c=d/e"])
def test_queries_pass_or_are_refused(query: str) -> None:
    seen: list[bytes] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.url.raw_path)
        return httpx.Response(200, json={"predictions": P})

    got = raw(settings_of(), handle, query.encode())
    assert got == 200 and seen == [f"{PATH}?{query}".encode()]


@pytest.mark.parametrize("query", [b"a=\xe4", b"a b", b"a\x7f", b"a\r\nb"])
def test_queries_of_other_bytes_are_refused(query: bytes) -> None:
    assert raw(settings_of(), GOOD, query) == 400


def raw(settings: Any, handler: Any, query: bytes) -> int:
    """The status of a request whose query no client has touched."""
    statuses: list[int] = []

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    async def receive() -> dict[str, Any]:
        if not asked_for:
            asked_for.append(True)
            return {"type": "http.request", "body": b"", "more_body": False}
        await asyncio.sleep(60)
        raise AssertionError

    asked_for: list[bool] = []
    scope = {
        **{"type": "http", "method": "POST", "path": PATH, "raw_path": PATH.encode()},
        **{"query_string": query, "headers": [], "client": ("127.0.0.1", 1)},
    }

    async def work() -> None:
        async with proxied(settings, handler) as client:
            await client._transport.app(scope, receive, send)  # type: ignore[attr-defined]

    run(work())
    return statuses[0]


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
    ("upstream_content_type", {}, body_of(TEXT, content_type="text/plain"), {}, "application/json"),
    (
        "upstream_content_type",
        {},
        body_of(TEXT, content_type="text/event-stream"),
        {},
        "application/json",
    ),
    ("upstream_content_type", {}, body_of(TEXT, content_type=""), {}, "application/json"),
    ("upstream_content_type", {}, body_of(TEXT, **BINARY), {}, "binary_data"),
    ("upstream_encoding", {}, body_of(TEXT, content_encoding="br"), {}, "compressed"),
    ("upstream_too_large", {"max_response_bytes": 10}, GOOD, {}, "at most 10 bytes"),
    ("upstream_not_json", {}, body_of(b'{"predictions": [[0.7123,'), {}, "JSON document"),
    ("upstream_document", {}, json_of({"scores": P}), {}, "predictions"),
    ("upstream_not_probabilities", {}, json_of({"predictions": [[0.7123, 0.1], P[0]]}), {}, ""),
    (
        "upstream_classes",
        {"defense": True},
        json_of({"predictions": [[0.7123, 0.2877]]}),
        {},
        "K=3",
    ),
]
FAILURES[-2] = (
    *FAILURES[-2][:2],
    json_of({"predictions": [[0.7123, 0.1, 0.1], P[0]]}),
    {},
    "1 of 2 rows",
)


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


# Errors of the upstream.


@pytest.mark.parametrize("status", [400, 401, 404, 422, 429, 500, 503])
def test_harmless_errors_pass_unchanged(status: int) -> None:
    body = b'{ "error": "model m is not ready" }'
    got = asked(settings_of(), body_of(body, status, retry_after="7", set_cookie="a=1"))
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
    got = asked(settings_of(), body_of(body, 500, kind, retry_after="0.7123"))
    assert got.status_code == 500 and got.json()["reason"] == "upstream_error"
    assert body not in got.content and "7123" not in str(got.headers) and b"7123" not in got.content


def test_no_error_body_passes_where_that_is_off() -> None:
    got = asked(settings_of(pass_error_bodies=False), json_of({"error": "busy"}, 503))
    assert got.status_code == 503 and b"busy" not in got.content


# What passes untouched.


def test_listed_paths_pass_untouched() -> None:
    def handle(request: httpx.Request) -> httpx.Response:
        assert request.method == "GET" and "accept" in request.headers
        return httpx.Response(
            503,
            content=b"\x000.7123",
            headers={"content-type": "x/y", "etag": "1", "keep-alive": "5"},
        )

    settings = settings_of(pass_paths=("GET /v1/models/*",))
    got = asked(settings, handle, method="GET", path="/v1/models/m", headers={"accept": "x/y"})
    assert (got.status_code, got.content) == (503, b"\x000.7123")
    assert got.headers["content-type"] == "x/y" and got.headers["etag"] == "1"
    assert "keep-alive" not in got.headers and "x-request-id" in got.headers
    assert asked(settings, handle, method="GET", path=PATH).status_code == 405


def test_a_defended_path_is_defended_whatever_else_is_listed() -> None:
    settings = settings_of(pass_paths=("POST /v1/models/*",), defend=("POST /v1/models/*:predict",))
    assert asked(settings, GOOD).json() != {"predictions": P}


def test_a_redirect_on_a_listed_path_is_refused() -> None:
    settings = settings_of(pass_paths=("GET /docs",))
    got = asked(settings, body_of(b"", 307, location="/x"), method="GET", path="/docs")
    assert got.json()["reason"] == "upstream_redirect"


# Identities, headers, health and metrics.


def test_the_identity_header_keys_each_row() -> None:
    seen: list[Any] = []

    def answer(rows: Array, ids: Any) -> Answered:
        seen.append(ids)
        return moved(rows, ids)

    settings = settings_of(identity_header="X-Account")
    assert asked(settings, GOOD, headers={"x-account": "ann"}, answer=answer).status_code == 200
    assert seen == [["ann", "ann"]]


def test_listed_headers_pass_unless_they_look_like_scores() -> None:
    settings = settings_of(pass_headers=("X-Model", "X-Score"))
    got = asked(settings, json_of({"predictions": P}, x_model="m-3", x_score="0.7123", x_other="1"))
    assert set(got.headers) == ALLOWED | {"x-model"}


def test_health_and_readiness() -> None:
    up = {"ready": True}

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v2/health/ready"
        if up["ready"] is None:
            raise httpx.ConnectError("")
        return httpx.Response(200 if up["ready"] else 503)

    async def work() -> None:
        async with proxied(settings_of(ready_path="/v2/health/ready"), handle) as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            for state in (False, None):
                up["ready"] = state  # type: ignore[assignment]
                got = await client.get("/readyz")
                assert (got.status_code, got.json()["reason"]) == (503, "not_ready")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.post("/healthz")).status_code == 404

    run(work())


def test_metrics_count_requests_rows_and_moves() -> None:
    async def work() -> str:
        settings = settings_of()
        async with proxied(settings, GOOD, answer=None, defense=Rounding(1)) as client:
            await client.post(PATH)
            await client.post(PATH + "x")
            return (await client.get("/metrics")).text

    page = run(work())
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['mipoison_requests_total{reason="ok",status="200"}']) == 1
    assert float(lines['mipoison_requests_total{reason="not_listed",status="404"}']) == 1
    assert float(lines["mipoison_rows_total"]) == float(lines["mipoison_row_l1_count"]) == 2
    assert float(lines["mipoison_requests_in_flight"]) == 0
    assert float(lines["mipoison_rows_unchanged_total"]) == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 200),
        ("::ffff:10.1.2.3", {}, 200),
        ("::1", {}, 403),
        ("192.0.2.1", {}, 403),
        ("testclient", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, 403),
    ],
)
def test_metrics_are_for_listed_networks(
    address: str, headers: dict[str, str], status: int
) -> None:
    settings = settings_of(metrics_allow=("127.0.0.1/32", "10.0.0.0/8"))
    got = asked(settings, GOOD, method="GET", path="/metrics", headers=headers, address=address)
    assert got.status_code == status


def test_logs_hold_no_vector_key_or_header(caplog: pytest.LogCaptureFixture) -> None:
    from mipoison.serve.proxy import logs

    formatter = logs._Lines()
    with caplog.at_level("INFO", logger="mipoison.serve"):
        asked(settings_of(), GOOD, path=f"{PATH}?token=s3cret", headers={"authorization": "s3cret"})
        asked(settings_of(), GOOD, answer=broken)
        asked(settings_of(), raising(KeyError))
    lines = [
        formatter.format(record) for record in caplog.records if record.name == "mipoison.serve"
    ]
    told = [json.loads(line) for line in lines]
    requests = [line for line in told if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 500, 500]
    assert requests[0]["route"] == DEFEND[0] and requests[0]["rows"] == 2
    errors = [line["error"] for line in told if line["event"] == "error"]
    assert errors == ["ValueError", "KeyError"]
    assert not any(text in line for line in lines for text in ("7123", "s3cret", "token"))


def test_a_client_that_goes_cancels_the_call() -> None:
    async def work() -> None:
        cancelled = asyncio.Event()

        async def handle(_: httpx.Request) -> httpx.Response:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                cancelled.set()
                raise
            raise AssertionError

        async with proxied(settings_of(), handle) as client:
            app = client._transport.app  # type: ignore[attr-defined]
            messages = [{"type": "http.request", "body": b"", "more_body": False}]

            async def receive() -> dict[str, Any]:
                if messages:
                    return messages.pop()
                await asyncio.sleep(0.05)
                return {"type": "http.disconnect"}

            async def send(message: Any) -> None:
                raise AssertionError("nobody is there")

            scope = {
                "type": "http",
                "method": "POST",
                "path": PATH,
                "raw_path": PATH.encode(),
                "query_string": b"",
                "headers": [],
                "client": ("127.0.0.1", 1),
            }
            await app(scope, receive, send)
            await asyncio.wait_for(cancelled.wait(), 5)
            page = (await client.get("/metrics")).text
            assert 'requests_total{reason="client_gone",status="499"} 1.0' in page

    run(work())
