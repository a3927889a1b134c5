"""A proxy in one process, between a client and an upstream that a function plays."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from mipoison.defenses import Rounding
from mipoison.defenses.base import Defense
from mipoison.serve.config import settings as sections
from mipoison.serve.config.checks import check
from mipoison.serve.defending import Answer
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.loading import Loaded
from mipoison.serve.proxy.application import application

Result = TypeVar("Result")
Handler = Callable[[httpx.Request], Any]
PATH = "/v1/models/m:predict"
DEFEND = (f"POST {PATH}", "POST /v2/models/*/infer")


def settings_of(protocol: str = "mlflow", **changes: Any) -> sections.Settings:
    """Settings with some fields of any section changed."""
    made = sections.Settings(
        upstream=sections.Upstream(url="http://upstream"),
        answers=sections.Answers(protocol=protocol),
        defense=sections.Guard(file=Path("none")),
        routes=sections.Routes(defend=DEFEND),
    )
    for section in ("upstream", "answers", "defense", "routes", "listen", "batching"):
        part = getattr(made, section)
        mine = {name: changes.pop(name) for name in list(changes) if hasattr(part, name)}
        made = replace(made, **{section: replace(part, **mine)})
    assert not changes, changes
    check(made)
    return made


def moved(rows: Array, ids: Sequence[str] | None) -> Answered:
    """A stand-in for a defense: a half of the way to the uniform vector."""
    return Answered(np.round((rows + 1 / rows.shape[1]) / 2, 4))


@asynccontextmanager
async def proxied(
    settings: sections.Settings,
    handler: Handler,
    *,
    answer: Answer | None = moved,
    defense: Defense | None = None,
    address: str = "127.0.0.1",
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the proxy in front of an upstream that the handler plays."""
    acting = defense or Rounding(2)
    app = application(
        settings,
        Loaded(acting, None),
        transport=httpx.MockTransport(_streaming(handler)),
        answer=answer,
    )
    transport = httpx.ASGITransport(app=app, client=(address, 1))
    # (An id that is drawn could hold any digits.)
    named = {"x-request-id": "a-test"}
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://proxy", headers=named) as client,
    ):
        yield client


def _streaming(handler: Handler) -> Handler:
    """The same with bodies that are still to be read, as they are on a network."""

    async def handle(request: httpx.Request) -> httpx.Response:
        response = handler(request)
        if inspect.isawaitable(response):
            response = await response
        if not response.is_stream_consumed:
            return response

        async def chunks() -> AsyncIterator[bytes]:
            yield response.content

        return httpx.Response(response.status_code, headers=response.headers.raw, content=chunks())

    return handle


def asked(
    settings: sections.Settings,
    handler: Handler,
    *,
    method: str = "POST",
    path: str = PATH,
    headers: dict[str, str] | list[tuple[str, str]] | None = None,
    content: Any = None,
    **options: Any,
) -> httpx.Response:
    """The answer to one request, with a body where the method has one."""
    if content is None and method in ("POST", "PUT", "PATCH"):
        content = b"{}"

    async def ask() -> httpx.Response:
        async with proxied(settings, handler, **options) as client:
            return await client.request(method, path, headers=headers, content=content)

    return run(ask())


def run(work: Coroutine[Any, Any, Result]) -> Result:
    """What it returns, within a time."""
    return asyncio.run(asyncio.wait_for(work, 20))


def json_of(document: Any, status: int = 200, **headers: str) -> Handler:
    """An upstream that always answers with a document."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, json=document, headers=named)

    return handle


def body_of(
    content: bytes, status: int = 200, content_type: str = "application/json", **headers: str
) -> Handler:
    """An upstream that always answers with a body."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}

    def handle(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            status, content=content, headers={"content-type": content_type, **named}
        )

    return handle
