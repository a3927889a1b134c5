"""What a model server leaves unread, or says too much, on a connection: no answer goes to another request."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import uvicorn
from serving import moved, settings_of

from mipoison.defenses import Rounding
from mipoison.serve.loading import Loaded
from mipoison.serve.proxy.application import application

SCORES = [0.123456, 0.876544]
HIDDEN = b"POST /v1/models/m:predict HTTP/1.1\r\nhost: h\r\ncontent-length: 2\r\n\r\n{}"


class Model(BaseHTTPRequestHandler):
    """A model server as many are: bodies are read where the model answers, and nowhere else."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def say(self, status: int, said: Any) -> None:
        body = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        self.seen.append(self.path)
        self.say(200, {"ready": True})

    do_HEAD = do_PUT = do_GET

    def do_POST(self) -> None:
        self.seen.append(self.path)
        if self.path != "/v1/models/m:predict":
            self.say(404, {"error": "no such model"})
            return
        self.rfile.read(int(self.headers["content-length"]))
        # (So that the next request comes before the answer.)
        time.sleep(0.05)
        self.say(200, {"predictions": [SCORES]})

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture(scope="module", params=[False, True], ids=["closed", "kept"])
def proxy(request: pytest.FixtureRequest) -> Iterator[tuple[int, list[str], bool]]:
    """The port of a proxy before such a server, what this has answered, and whether connections are kept."""
    seen: list[str] = []
    model = ThreadingHTTPServer(("127.0.0.1", 0), type("Seeing", (Model,), {"seen": seen}))
    threading.Thread(target=model.serve_forever).start()
    settings = settings_of(
        "tfserving",
        url=f"http://127.0.0.1:{model.server_port}",
        keep_alive=request.param,
        defend=("POST /v1/models/*:predict", "GET /scores"),
        pass_paths=("GET /ready", "HEAD /ready", "PUT /ready", "POST /note"),
    )
    app = application(settings, Loaded(Rounding(2), None), answer=moved)
    server = uvicorn.Server(uvicorn.Config(app, port=0, http="h11", log_level="critical"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1], seen, request.param
    server.should_exit = True
    thread.join()
    model.shutdown()
    model.server_close()


def ask(port: int, method: str, path: str, body: bytes | None = None) -> tuple[int, str]:
    client = HTTPConnection("127.0.0.1", port, timeout=10)
    client.request(method, path, body)
    got = client.getresponse()
    said = got.read().decode()
    client.close()
    return got.status, said


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_body_that_means_nothing_is_refused(
    method: str, proxy: tuple[int, list[str], bool]
) -> None:
    port, seen, _ = proxy
    seen.clear()
    status, said = ask(port, method, "/ready", HIDDEN)
    assert status == 400 and seen == []
    assert method == "HEAD" or json.loads(said)["reason"] == "unexpected_body"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("PUT", "/ready", 200), ("POST", "/note", 404), ("POST", "/v1/models/none:predict", 404)],
)
def test_a_body_that_the_server_leaves_unread_is_no_request(
    method: str, path: str, status: int, proxy: tuple[int, list[str], bool]
) -> None:
    port, seen, kept = proxy
    seen.clear()
    # Kept connections may mix up answers of defended paths where bodies are left unread, as their setting says.
    mixed = kept and path.endswith("predict")
    for _ in range(3):
        assert ask(port, method, path, HIDDEN)[0] == status or mixed
        assert ask(port, "GET", "/ready") == (200, '{"ready": true}')
        said = ask(port, "POST", "/v1/models/m:predict", b"{}")[1]
        assert str(SCORES[0]) not in said
        if not mixed:
            assert json.loads(said)["predictions"] == [[round((p + 0.5) / 2, 4) for p in SCORES]]
    if not mixed:
        assert seen == [path, "/ready", "/v1/models/m:predict"] * 3


def test_what_comes_after_an_answer_goes_to_nobody(proxy: tuple[int, list[str], bool]) -> None:
    """This server answers HEAD with a body."""
    port, _, _ = proxy
    for _ in range(3):
        assert ask(port, "HEAD", "/ready") == (200, "")
        assert ask(port, "POST", "/v1/models/m:predict", b"{}")[0] == 200
        assert ask(port, "GET", "/ready") == (200, '{"ready": true}')


def test_kept_connections_are_used_again(
    proxy: tuple[int, list[str], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    port, _, kept = proxy
    begun = []
    setup = Model.setup
    monkeypatch.setattr(Model, "setup", lambda self: begun.append(1) or setup(self))
    for _ in range(4):
        assert ask(port, "POST", "/v1/models/m:predict", b"{}")[0] == 200
    assert len(begun) <= 1 if kept else len(begun) == 4
