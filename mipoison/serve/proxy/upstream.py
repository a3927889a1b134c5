"""Calls to the model server: time limits, size limits, and a reason for each way in which it can fail."""

from __future__ import annotations

import asyncio
import math
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from http.cookiejar import DefaultCookiePolicy
from typing import Final, TypeVar

import httpx

from mipoison.serve.config.settings import Upstream as Settings
from mipoison.serve.failures import Refused
from mipoison.serve.proxy.headers import Headers

# A connection that is used again may hold what is left of the request or the answer before. A model server that leaves
# a body unread takes it for a request, which nobody has checked, and whose answer goes to the next request.
_CLOSE: Final = (b"connection", b"close")
# Idle connections are closed before servers of Python close theirs, after two seconds (gunicorn) or five (uvicorn).
_IDLE_S: Final = 1.5
# Seconds in which the upstream has to say that it is ready, and in which others get what it said.
_READY_S: Final = 2.0
_READY_KEPT_S: Final = 1.0
_Result = TypeVar("_Result")


@dataclass(frozen=True)
class Call:
    """A request to the upstream.

    Args:
        method: in capitals.
        target: path and query, as the client sent them.
        headers: to send.
        body: to send.
        defended: whether its answer is; one that passes untouched may say that nothing has changed (304).
    """

    method: str
    target: bytes
    headers: Headers
    body: bytes
    defended: bool = True


@dataclass(frozen=True)
class Reply:
    """A whole answer of the upstream."""

    status: int
    headers: Headers
    content_type: str
    body: bytes


class Upstream:
    """The model server.

    Args:
        settings: where it is, and its limits.
        connections: most at a time.
        transport: in place of the network, for tests.
    """

    def __init__(
        self,
        settings: Settings,
        connections: int,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self.settings = settings
        base = httpx.URL(settings.url)
        self._prefix = base.raw_path.rstrip(b"/")
        self._base = base
        # (Redirects are not followed, so http stays http. To read the usual certificates takes a tenth of a second.)
        verify: ssl.SSLContext | bool = False
        if base.scheme == "https":
            verify = ssl.create_default_context(cafile=settings.ca_file)

        def client(connections: int, *, kept: bool = False) -> httpx.AsyncClient:
            made = httpx.AsyncClient(
                transport=transport,
                verify=verify,
                timeout=httpx.Timeout(settings.timeout_s, connect=settings.connect_timeout_s),
                limits=httpx.Limits(
                    max_connections=connections,
                    max_keepalive_connections=connections if kept else 0,
                    keepalive_expiry=_IDLE_S,
                ),
                follow_redirects=False,
                # No proxy or certificate of the environment comes between.
                trust_env=False,
            )
            # What the upstream sets for one client never goes along with a request of another.
            made.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
            return made

        self._client = client(connections)
        # Such connections have defended answers alone, so that what is left on one is defended, too.
        self._kept = client(connections, kept=True) if settings.keep_alive else None
        # Whoever asks /readyz takes no connection from requests.
        self._asking = client(1)
        self._asks = asyncio.Lock()
        self._ready, self._ready_until = False, -math.inf

    async def close(self) -> None:
        """Closes all connections."""
        for one in (self._client, self._kept, self._asking):
            if one is not None:
                await one.aclose()

    async def fetch(self, call: Call) -> Reply:
        """The whole answer.

        Raises:
            Refused: if the upstream cannot be reached, breaks off, redirects, compresses, or is too slow or too large.
        """
        return await self._timed(lambda: self._fetched(call))

    async def begin(self, call: Call) -> httpx.Response:
        """The status and headers of an answer; its body is still to be read, and the answer to be closed.

        Raises:
            Refused: if there is none.
        """
        return await self._timed(lambda: self._sent(call))

    async def body(self, response: httpx.Response) -> AsyncIterator[bytes]:
        """The bytes of an answer as they arrive, and closes it.

        Raises:
            Refused: if the upstream breaks off.
        """
        try:
            with _reasons(self.settings):
                async for chunk in response.aiter_raw():
                    yield chunk
        finally:
            await response.aclose()

    async def is_ready(self) -> bool:
        """Whether the upstream answered 200 at its path for that a moment ago; True if there is no such path."""
        path = self.settings.ready_path
        if path is None:
            return True
        async with self._asks:
            if time.monotonic() >= self._ready_until:
                self._ready = await self._is_ready(path)
                self._ready_until = time.monotonic() + _READY_KEPT_S
            return self._ready

    async def _is_ready(self, path: str) -> bool:
        async def asked() -> bool:
            # (The body is left unread, whatever its size.)
            url = self._url(path.encode())
            async with self._asking.stream("GET", url, headers=[_CLOSE]) as response:
                return response.status_code == 200

        try:
            return await asyncio.wait_for(asked(), _READY_S)
        except (httpx.HTTPError, asyncio.TimeoutError):
            return False

    async def _fetched(self, call: Call) -> Reply:
        response = await self._sent(call)
        try:
            encoding = response.headers.get("content-encoding", "identity").strip().lower()
            if encoding not in ("", "identity"):
                raise Refused(
                    "upstream_encoding",
                    "expected an answer that is not compressed, as was asked for, got a compressed one; turn "
                    "compression off in the upstream",
                )
            body = bytearray()
            with _reasons(self.settings):
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > self.settings.max_response_bytes:
                        raise Refused(
                            "upstream_too_large",
                            f"expected an answer of at most {self.settings.max_response_bytes} bytes from the "
                            "upstream, got a larger one; raise [upstream] max_response_bytes",
                        )
        finally:
            await response.aclose()
        return Reply(
            response.status_code,
            list(response.headers.raw),
            response.headers.get("content-type", ""),
            bytes(body),
        )

    async def _sent(self, call: Call) -> httpx.Response:
        kept = self._kept if call.defended else None
        client = kept or self._client
        request = client.build_request(
            call.method,
            self._url(call.target),
            headers=call.headers if kept else [*call.headers, _CLOSE],
            content=call.body or None,
        )
        with _reasons(self.settings):
            response = await client.send(request, stream=True)
        if not 200 <= response.status_code < 600:
            await response.aclose()
            raise Refused(
                "upstream_status",
                "expected a status of 200 to 599 from the upstream, got another, which HTTP does not have",
            )
        is_unchanged = response.status_code == 304 and not call.defended
        if not is_unchanged and 300 <= response.status_code < 400:
            await response.aclose()
            raise Refused(
                "upstream_redirect",
                "expected an answer from the upstream, got a redirect, which is not followed; list the path that it "
                "leads to",
            )
        return response

    def _url(self, target: bytes) -> httpx.URL:
        return self._base.copy_with(raw_path=self._prefix + target)

    async def _timed(self, call: Callable[[], Awaitable[_Result]]) -> _Result:
        try:
            return await asyncio.wait_for(call(), self.settings.timeout_s)
        except asyncio.TimeoutError:
            raise _too_slow(self.settings) from None


class _reasons:
    """Turns errors of the connection into reasons; their messages may quote what came."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        if kind is None:
            return
        if issubclass(kind, httpx.TimeoutException):
            raise _too_slow(self.settings) from None
        if issubclass(kind, httpx.ConnectError):
            raise Refused(
                "upstream_unreachable",
                "expected a connection to the upstream, got none; it may be down or starting",
            ) from None
        if issubclass(kind, httpx.HTTPError | httpx.StreamError):
            raise Refused(
                "upstream_broke",
                "expected a whole HTTP answer from the upstream, got a broken one or none",
            ) from None


def _too_slow(settings: Settings) -> Refused:
    return Refused(
        "upstream_timeout",
        f"expected the upstream to answer within {settings.timeout_s:g} s (and to accept a connection within "
        f"{settings.connect_timeout_s:g} s), got nothing or a part",
    )
