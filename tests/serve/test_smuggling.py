"""Requests that two servers could cut in two ways: at most one reaches the model server, with a length of its own."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest
import uvicorn
from serving import PATH, moved, settings_of

from mipoison.defenses import Rounding
from mipoison.serve.loading import Loaded
from mipoison.serve.proxy.application import application

HEAD = f"POST {PATH} HTTP/1.1\r\nhost: h\r\n"
HIDDEN = (
    f"POST {PATH}?hidden HTTP/1.1\r\nhost: h\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{{}}"
)
CHUNKED = f"0\r\n\r\n{HIDDEN}"
CASES = {
    "a length and chunks": f"content-length: {len(CHUNKED)}\r\ntransfer-encoding: chunked\r\n\r\n{CHUNKED}",
    "chunks and a length": f"transfer-encoding: chunked\r\ncontent-length: {len(CHUNKED)}\r\n\r\n{CHUNKED}",
    "two lengths": f"content-length: 0\r\ncontent-length: {len(HIDDEN)}\r\n\r\n{HIDDEN}",
    "a list of lengths": f"content-length: 0, {len(HIDDEN)}\r\n\r\n{HIDDEN}",
    "a signed length": f"content-length: +{len(HIDDEN)}\r\n\r\n{HIDDEN}",
    "an unknown encoding": f"transfer-encoding: xchunked\r\ncontent-length: 0\r\n\r\n{HIDDEN}",
    "a space before the colon": f"transfer-encoding : chunked\r\ncontent-length: 0\r\n\r\n{HIDDEN}",
    "a chunk of a hidden length": f"transfer-encoding: chunked\r\n\r\n0x0\r\n\r\n{HIDDEN}",
}


@pytest.fixture(scope="module")
def proxy() -> Iterator[tuple[int, list[httpx.Request]]]:
    """The port of a proxy, and what its model server was asked."""
    seen: list[httpx.Request] = []

    async def model(request: httpx.Request) -> httpx.Response:
        await request.aread()
        seen.append(request)
        return httpx.Response(200, json={"predictions": [[0.5, 0.5]]})

    app = application(
        settings_of(),
        Loaded(Rounding(2), None),
        transport=httpx.MockTransport(model),
        answer=moved,
    )
    # (The parser that `pip install 'mipoison[serve]'` brings.)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1], seen
    server.should_exit = True
    thread.join()


def told(port: int, text: str) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(text.encode())
        said = b""
        while chunk := client.recv(65536):
            said += chunk
    return said


def test_requests_one_after_another_are_two(proxy: tuple[int, list[httpx.Request]]) -> None:
    """What the cases hide is a good request where nothing hides it."""
    port, seen = proxy
    seen.clear()
    told(port, f"{HEAD}content-length: 0\r\n\r\n{HIDDEN}")
    assert [request.url.query for request in seen] == [b"", b"hidden"]


@pytest.mark.parametrize("case", CASES)
def test_hidden_requests_are_refused(case: str, proxy: tuple[int, list[httpx.Request]]) -> None:
    port, seen = proxy
    seen.clear()
    said = told(port, HEAD + CASES[case])
    assert all(request.url.query == b"" for request in seen) and len(seen) <= 1
    # (What is forwarded says once how long it is, as it was read.)
    for request in seen:
        assert "transfer-encoding" not in request.headers
        assert int(request.headers.get("content-length", 0)) == len(request.content)
    assert said.count(b"HTTP/1.1") == 1 and said.startswith(b"HTTP/1.1 4")


def test_a_forwarded_request_has_one_length(proxy: tuple[int, list[httpx.Request]]) -> None:
    port, seen = proxy
    seen.clear()
    told(
        port, f"{HEAD}connection: close\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{{}}\r\n0\r\n\r\n"
    )
    (request,) = seen
    assert request.content == b"{}" and request.headers["content-length"] == "2"
    assert "transfer-encoding" not in request.headers


@pytest.mark.parametrize("target", ["*", "http://other/x", f"http://other{PATH}"])
def test_targets_that_are_no_paths_are_refused_and_counted(
    target: str, proxy: tuple[int, list[httpx.Request]]
) -> None:
    port, seen = proxy
    seen.clear()
    ask = "HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n"
    assert b'"bad_path"' in told(port, f"OPTIONS {target} {ask}") and seen == []
    assert b'{reason="bad_path",status="400"}' in told(port, f"GET /metrics {ask}")


def test_metrics_are_not_for_proxies_of_http_1_0(proxy: tuple[int, list[httpx.Request]]) -> None:
    """As nginx forwards where it is told nothing else."""
    said = told(proxy[0], "GET /metrics HTTP/1.0\r\nhost: h\r\nconnection: close\r\n\r\n")
    assert b'"metrics_forbidden"' in said


@pytest.mark.parametrize("path", ["/%6detrics", "/%68ealthz", "/readyz%00"])
def test_the_proxys_own_paths_have_no_other_spelling(
    path: str, proxy: tuple[int, list[httpx.Request]]
) -> None:
    """A server in front that keeps /metrics out compares what was sent."""
    port, seen = proxy
    seen.clear()
    said = told(port, f"GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400") and b'"bad_path"' in said and seen == []


@pytest.mark.parametrize("path", ["/healthz", "/metrics"])
def test_nothing_hides_behind_the_proxys_own_paths(
    path: str, proxy: tuple[int, list[httpx.Request]]
) -> None:
    port, seen = proxy
    seen.clear()
    said = told(port, f"GET {path} HTTP/1.1\r\nhost: h\r\n{CASES['a length and chunks']}")
    assert seen == [] and b'"two_lengths"' in said
