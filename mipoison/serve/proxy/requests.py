"""The way of one request: route, limits, upstream, vectors, defense, answer.

Nothing that the upstream says reaches the client but through `_defended` (the vectors, defended), `_error` (a body in
which nothing looks like a score) and `_pass` (paths that are listed as untouched).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from mipoison.serve.batching import Batcher
from mipoison.serve.config.routes import Route, find
from mipoison.serve.config.settings import Settings
from mipoison.serve.documents.aside import aside
from mipoison.serve.documents.document import is_harmless_body, read_json, write_json
from mipoison.serve.documents.vectors import Array, Protocol, nothing
from mipoison.serve.failures import Refused
from mipoison.serve.proxy import headers
from mipoison.serve.proxy.headers import Headers
from mipoison.serve.proxy.logs import log, request_id
from mipoison.serve.proxy.metrics import Metrics
from mipoison.serve.proxy.responses import JSON, kind_of, refusal, require_json, response_of
from mipoison.serve.proxy.upstream import Call, Reply, Upstream

# Of bodies of errors that are looked through.
_LONGEST_ERROR: Final = 16 * 1024
# Requests whose bodies are still to arrive, for each one that may be answered at a time.
_READING: Final = 4
# A body means nothing with these (RFC 9110, 9.3), so that many servers leave it unread and take it for a request.
_WITHOUT_BODY: Final = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))
# Written into logs and metrics where the client has closed the connection; it is never sent.
_GONE: Final = 499


@dataclass
class _Told:
    """What the log line of a request says, and whether it counts as one that is answered."""

    id: str
    answering: bool = False
    route: str = ""
    rows: int = 0
    reason: str = "ok"
    dropped: int = 0
    upstream_s: float = 0.0
    began: float = field(default_factory=time.perf_counter)


class Proxy:
    """Forwards what is listed, and defends what is listed as defended; an ASGI application.

    Args:
        settings: all of them.
        routes: of the settings.
        protocol: finds the vectors.
        prepare: probability vectors of one request's rows, [N, K] → [N, K].
        batcher: defends rows.
        upstream: answers.
        metrics: count.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        routes: Sequence[Route],
        protocol: Protocol,
        prepare: Callable[[Array], Array],
        batcher: Batcher,
        upstream: Upstream,
        metrics: Metrics,
    ) -> None:
        self.settings = settings
        self.routes = tuple(routes)
        self.protocol = protocol
        self.prepare = prepare
        self.batcher = batcher
        self.upstream = upstream
        self.metrics = metrics
        self.reading = 0
        self.answering = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, counts it and logs it."""
        request = Request(scope, receive)
        told = _Told(request_id(request.headers.get("x-request-id")))
        self.metrics.in_flight.inc()
        status = _GONE
        try:
            response = await self._answered(request, told)
            if response is not None:
                status = response.status_code
                response.headers["x-request-id"] = told.id
                await response(scope, receive, send)
        except BaseException as error:
            # Past the first byte of a response that passes: the connection is closed, which tells the client.
            told.reason = error.reason if isinstance(error, Refused) else "client_gone"
            raise
        finally:
            self.answering -= told.answering
            self.metrics.in_flight.dec()
            self._tell(request, told, status)

    async def _answered(self, request: Request, told: _Told) -> Response | None:
        """The response; None if the client has gone."""
        try:
            headers.require_one_length(request.scope["headers"])
            route = find(self.routes, request.method, raw_path(request.scope))
            told.route = str(route)
            self._require_room(self.answering)
            identity = self._identity(request, route)
            body = await self._body(request)
            _require_none(request.method, body)
            call = _call(request, route, told.id, body)
            # (From here on, so that a slow sender keeps nobody else out.)
            self._require_room(self.answering)
            self.answering += 1
            told.answering = True
            if not route.defended:
                return await self._pass(call)
            return await _while_connected(self._defended(call, identity, told), request)
        except Refused as refused:
            told.reason = refused.reason
            return refusal(refused, told.id)
        except ClientDisconnect:
            told.reason = "client_gone"
            return None
        except Exception as error:
            told.reason = "internal"
            log("error", level=logging.ERROR, error=error, request_id=told.id)
            return refusal(
                Refused(
                    "internal",
                    "the proxy failed; nothing of the upstream's answer was sent. Its log names the place under this "
                    "request id",
                ),
                told.id,
            )

    def _require_room(self, taken: int, times: int = 1) -> None:
        most = times * self.settings.listen.max_concurrent
        if taken >= most:
            said = f"expected at most {most} requests at a time, got more; send it again later"
            raise Refused("too_busy", said)

    def _identity(self, request: Request, route: Route) -> str | None:
        name = self.settings.defense.identity_header
        if name is None or not route.defended:
            return None
        return headers.single(request.scope["headers"], name)

    async def _body(self, request: Request) -> bytes:
        """The body of the request.

        Raises:
            Refused: if it is too large, does not arrive in time, or too many others are arriving.
            ClientDisconnect: if the client has gone.
        """
        listen = self.settings.listen
        too_large = Refused(
            "request_too_large",
            f"expected a body of at most {listen.max_request_bytes} bytes, got a larger one",
            {"connection": "close"},
        )
        declared = request.headers.get("content-length", "0")
        if declared.isdecimal() and int(declared) > listen.max_request_bytes:
            raise too_large

        async def read() -> bytes:
            body = bytearray()
            async for chunk in request.stream():
                body += chunk
                if len(body) > listen.max_request_bytes:
                    raise too_large
            return bytes(body)

        self._require_room(self.reading, _READING)
        self.reading += 1
        try:
            return await asyncio.wait_for(read(), listen.request_timeout_s)
        except asyncio.TimeoutError:
            raise Refused(
                "request_timeout",
                f"expected the body within {listen.request_timeout_s:g} s, got a part",
                {"connection": "close"},
            ) from None
        finally:
            self.reading -= 1

    async def _defended(self, call: Call, identity: str | None, told: _Told) -> Response:
        """The upstream's answer with its vectors defended.

        Raises:
            Refused: if it is no answer that can be defended.
        """
        began = time.perf_counter()
        try:
            reply = await self.upstream.fetch(call)
        finally:
            told.upstream_s = time.perf_counter() - began
            self.metrics.upstream.observe(told.upstream_s)
        beside = headers.beside_vectors(reply.headers, self.settings.answers.pass_headers)
        if reply.status >= 400:
            return self._error(reply, beside, told)
        require_json(reply)
        size = len(reply.body)
        found = await aside(size, lambda: self.protocol.read(read_json(reply.body)))
        told.rows, told.dropped = len(found.rows), found.dropped
        self.metrics.dropped.inc(found.dropped)
        answered = nothing(self.settings.answers.top_k)
        if len(found.rows):
            rows = self.prepare(found.rows)
            ids = None if identity is None else [identity] * len(rows)
            answered = await self.batcher.submit(rows, ids)
        body = await aside(size, lambda: write_json(found.write(answered)))
        return response_of(200, body, JSON, beside)

    def _error(self, reply: Reply, beside: Headers, told: _Told) -> Response:
        """An error of the upstream: its status and, if nothing in it looks like a score, its body."""
        told.reason = "upstream_error"
        if self.settings.upstream.pass_error_bodies and is_harmless_body(
            reply.body, reply.content_type, longest=_LONGEST_ERROR
        ):
            return response_of(reply.status, reply.body, kind_of(reply), beside)
        sentence = (
            f"the upstream answered {reply.status}; its body is kept back, since it may hold scores"
        )
        body = write_json({"error": sentence, "reason": "upstream_error", "request_id": told.id})
        return response_of(reply.status, body, JSON, beside)

    async def _pass(self, call: Call) -> Response:
        """An answer that passes untouched, as it arrives."""
        begun = await self.upstream.begin(call)
        response = StreamingResponse(self.upstream.body(begun), status_code=begun.status_code)
        response.raw_headers = headers.to_client(begun.headers.raw)
        return response

    def _tell(self, request: Request, told: _Told, status: int) -> None:
        seconds = time.perf_counter() - told.began
        self.metrics.total.observe(seconds)
        self.metrics.requests.labels(str(status), told.reason).inc()
        if self.settings.listen.access_log:
            log(
                "request",
                request_id=told.id,
                method=request.method,
                route=told.route,
                status=status,
                reason=told.reason,
                rows=told.rows,
                dropped_fields=told.dropped,
                upstream_ms=round(1000 * told.upstream_s, 2),
                total_ms=round(1000 * seconds, 2),
            )


def _require_none(method: str, body: bytes) -> None:
    if body and method in _WITHOUT_BODY:
        raise Refused(
            "unexpected_body",
            f"expected a {method} without a body, got one with it, which could hide a second request; leave it out",
        )


def raw_path(scope: Scope) -> str:
    """The path as the client sent it, escapes and all."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw.decode("latin-1")


def _call(request: Request, route: Route, id: str, body: bytes) -> Call:
    scope: Any = request.scope
    target = raw_path(scope).encode("latin-1")
    query: bytes = scope["query_string"]
    if query:
        if any(byte <= 32 or byte >= 127 or byte == ord("#") for byte in query):
            said = "expected a query of printable ASCII without #, got other bytes; percent-encode them"
            raise Refused("bad_path", said)
        target += b"?" + query
    sent = headers.to_upstream(scope["headers"], id, defended=route.defended)
    return Call(request.method, target, sent, body, route.defended)


async def _while_connected(work: Awaitable[Response], request: Request) -> Response:
    """The response, unless the client goes first; then the work is cancelled.

    Raises:
        ClientDisconnect: if the client has gone.
    """
    working = asyncio.ensure_future(work)
    watching = asyncio.ensure_future(_disconnected(request))
    try:
        await asyncio.wait({working, watching}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise ClientDisconnect
    finally:
        for task in (working, watching):
            task.cancel()
        await asyncio.gather(working, watching, return_exceptions=True)


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
