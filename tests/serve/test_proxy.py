"""The proxy end to end: what reaches the upstream, and what comes back."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from serving import PATH, asked, body_of, json_of, moved, proxied, run, settings_of

from mipoison.serve.documents.vectors import Answered, Array

P = [[0.7123, 0.1877, 0.1], [0.3, 0.3, 0.4]]
GOOD = json_of({"predictions": P})
ALLOWED = {"content-type", "content-length", "x-request-id"}


def test_vectors_go_out_defended() -> None:
    got = asked(settings_of(), GOOD)
    assert got.status_code == 200 and set(got.headers) == ALLOWED
    assert got.content == b'{"predictions":[[0.5228,0.2605,0.2167],[0.3167,0.3167,0.3667]]}'


def test_an_answer_without_a_type_is_read_as_json() -> None:
    body = str({"predictions": P}).replace("'", '"').encode()
    got = asked(settings_of(), lambda _: httpx.Response(200, content=body))
    assert got.status_code == 200 and got.content == asked(settings_of(), GOOD).content


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
        "x_http_method_override": "GET",
        "x-forwarded-uri": "/x",
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
    assert not {
        "x-secret",
        "range",
        "x-http-method-override",
        "x_http_method_override",
        "x-forwarded-uri",
    } & set(request.headers)
    assert got.headers["x-request-id"] == "abc-1"


def test_cookies_of_one_client_stay_with_it() -> None:
    seen: list[str | None] = []

    def handle(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers.get("cookie"))
        return httpx.Response(200, json={"predictions": P}, headers={"set-cookie": "s=ann; Path=/"})

    async def work() -> None:
        async with proxied(settings_of(), handle) as client:
            await client.post(PATH)
            await client.post(PATH)
            await client.post(PATH, headers={"cookie": "s=bob"})

    run(work())
    assert seen == [None, None, "s=bob"]


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


@pytest.mark.parametrize("query", [b"a=\xe4", b"a b", b"a\x7f", b"a\r\nb", b"a#b"])
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


def test_preflights_pass_where_they_are_listed() -> None:
    settings = settings_of(pass_paths=(f"OPTIONS {PATH}",))
    upstream = body_of(b"", 204, access_control_allow_origin="*")
    got = asked(settings, upstream, method="OPTIONS")
    assert (got.status_code, got.headers["access-control-allow-origin"]) == (204, "*")
    assert asked(settings, GOOD).json() != {"predictions": P}


def test_a_defended_path_is_defended_whatever_else_is_listed() -> None:
    settings = settings_of(pass_paths=("POST /v1/models/*",), defend=("POST /v1/models/*:predict",))
    assert asked(settings, GOOD).json() != {"predictions": P}


def test_a_redirect_on_a_listed_path_is_refused() -> None:
    settings = settings_of(pass_paths=("GET /docs",))
    got = asked(settings, body_of(b"", 307, location="/x"), method="GET", path="/docs")
    assert got.json()["reason"] == "upstream_redirect"


def test_nothing_changed_on_a_listed_path_passes() -> None:
    settings = settings_of(pass_paths=("GET /docs",))
    upstream = body_of(b"", 304, etag="1")
    got = asked(settings, upstream, method="GET", path="/docs", headers={"if-none-match": "1"})
    assert (got.status_code, got.headers["etag"], got.content) == (304, "1", b"")


# Identities and headers, and clients that go.


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
