"""The application: what the proxy is made of, and what it answers itself."""

from __future__ import annotations

import hmac
import ipaddress
import re
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import httpx
import torch
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as Served

from mipoison.serve.batching import Batcher
from mipoison.serve.config.checks import routes_of, token_of
from mipoison.serve.config.settings import Settings
from mipoison.serve.defending import Answer, Defend, Prepare
from mipoison.serve.documents.protocols import protocol_of
from mipoison.serve.failures import Refused
from mipoison.serve.loading import Loaded, meter_of
from mipoison.serve.proxy.headers import require_one_length
from mipoison.serve.proxy.logs import log, request_id
from mipoison.serve.proxy.metrics import CONTENT_TYPE, Metrics
from mipoison.serve.proxy.requests import Proxy, raw_path
from mipoison.serve.proxy.responses import refusal
from mipoison.serve.proxy.upstream import Upstream

# An IPv4 address as a socket of both kinds has it.
_MAPPED: Final = "::ffff:"
# Headers that proxies, load balancers and content networks add. (Nginx adds none where it is not told to, but speaks
# HTTP/1.0.)
_FORWARDED: Final = re.compile(
    "forwarded|via|x-forwarded|x-real-ip|x-client-ip|x-cluster-client-ip|x-original-|x-envoy-|x-amzn-|true-client-ip|"
    "cf-|cdn-loop|fastly-|proxy-"
)


def application(
    settings: Settings,
    loaded: Loaded,
    *,
    metrics: Metrics | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    answer: Answer | None = None,
) -> Starlette:
    """The ASGI application of the settings.

    Args:
        settings: checked ones.
        loaded: the defense that they name.
        metrics: to count in; new ones by default.
        transport: in place of the network to the upstream, for tests.
        answer: in place of what the defense answers, for tests.
    """
    counted = metrics or Metrics()
    answers, guard = settings.answers, settings.defense
    meter = meter_of(guard, loaded.defense, [counted.drifted])
    defend = Defend(meter, decimals=answers.decimals, top_k=answers.top_k, moved=counted.moved)

    def defended(rows: int, seconds: float) -> None:
        counted.defended(rows, seconds, label_only=meter.label_only)

    batcher_ = Batcher(answer or defend, settings.batching, defended)
    token = token_of(settings)
    upstream = Upstream(settings.upstream, settings.listen.max_concurrent, transport)
    proxy = Proxy(
        settings,
        routes=routes_of(settings),
        protocol=protocol_of(answers),
        prepare=Prepare(
            loaded.defense,
            gives=answers.gives,
            temperature=answers.temperature,
            most=settings.batching.max_queued_rows,
        ),
        batcher=batcher_,
        upstream=upstream,
        metrics=counted,
    )

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        torch.set_num_threads(guard.threads)
        async with batcher_:
            log("started", fingerprint=loaded.fingerprint, defense=loaded.defense.name)
            yield
        await upstream.close()
        log("stopped")

    def own(path: str, answer: Callable[[Request], Awaitable[Response]]) -> Served:
        async def answered(request: Request) -> Response:
            try:
                require_one_length(request.scope["headers"])
                # (A server in front that keeps a path of these out compares what was sent.)
                if raw_path(request.scope) != path:
                    raise Refused(
                        "bad_path", f"expected {path}, got it with percent-escapes; send it plain"
                    )
                return await answer(request)
            except Refused as refused:
                return refusal(refused, request_id(request.headers.get("x-request-id")))

        return Served(path, answered, methods=["GET"])

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(_: Request) -> Response:
        if not batcher_.alive:
            raise Refused("not_ready", "the defense does not run; restart the proxy")
        if not await upstream.is_ready():
            raise Refused("not_ready", "the upstream is not ready")
        return JSONResponse({"status": "ready"})

    async def read_metrics(request: Request) -> Response:
        _require_allowed(request, settings.listen.metrics_allow, token)
        counted.queued.set(batcher_.queued)
        return Response(counted.page(), headers={"content-type": CONTENT_TYPE})

    made = Starlette(
        routes=[
            own("/healthz", health),
            own("/readyz", ready),
            own("/metrics", read_metrics),
            # (An instance is taken as an ASGI application, with every method.)
            Served("/{path:path}", proxy),
        ],
        lifespan=lifespan,
    )
    # Targets that do not begin with a slash, such as * or a whole URL.
    made.router.default = proxy
    return made


def _require_allowed(request: Request, networks: tuple[str, ...], token: bytes | None) -> None:
    """Raises Refused unless the client may read metrics.

    Sums of moves tell a client who is alone how far their own vector moved. A request that another proxy forwards has
    that proxy's address, so it is refused; one that adds no header (and speaks HTTP/1.1) only a token keeps out.
    """
    forwarded = request.scope.get("http_version") == "1.0" or any(
        _FORWARDED.match(name) for name in request.headers
    )
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host.removeprefix(_MAPPED))
        allowed = any(address in ipaddress.ip_network(network) for network in networks)
    except ValueError:
        allowed = False
    if forwarded or not allowed:
        raise Refused(
            "metrics_forbidden",
            "expected a request from a network in [listen] metrics_allow, got another one; moves that are counted "
            "tell of single vectors",
        )
    given = request.headers.get("authorization", "").encode("latin-1")
    if token is not None and not hmac.compare_digest(given, b"Bearer " + token):
        raise Refused(
            "metrics_forbidden",
            "expected the token of [listen] metrics_token_file as Authorization: Bearer, got another or none",
        )
