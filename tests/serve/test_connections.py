"""Connections of clients: small packets are sent at once, and clients that do not read are cut off."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from uvicorn.server import ServerState

from mipoison.serve.proxy import connections
from mipoison.serve.proxy.connections import Connection


def test_packets_are_sent_at_once() -> None:
    async def option() -> int:
        config = uvicorn.Config(Starlette(), lifespan="off", log_config=None)
        config.load()
        made: list[Connection] = []

        def connected() -> Connection:
            made.append(Connection(config, ServerState(), {}))
            return made[-1]

        # (As uvicorn makes the one that workers share: without a protocol, by which asyncio would know it.)
        shared = socket.socket(socket.AF_INET)
        shared.bind(("127.0.0.1", 0))
        server = await asyncio.get_running_loop().create_server(connected, sock=shared)
        async with server:
            _, writer = await asyncio.open_connection(*shared.getsockname())
            while not made or made[0].transport is None:
                await asyncio.sleep(0.001)
            found = made[0].transport.get_extra_info("socket")
            told = found.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            writer.close()
            made[0].transport.close()
        return int(told)

    assert asyncio.run(asyncio.wait_for(option(), 20)) != 0


def test_a_client_that_reads_slowly_gets_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A large answer takes longer than the time without progress that is allowed."""
    monkeypatch.setattr(connections, "STALLED_S", 0.2)
    size = 2**25

    async def whole(_: Request) -> Response:
        return Response(b"x" * size)

    async def work() -> None:
        config = uvicorn.Config(Starlette(routes=[Route("/", whole)]), lifespan="off")
        config.load()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, ServerState(), {}), "127.0.0.1", 0
        )
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address, limit=2**16)
            writer.write(b"GET / HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n")
            got = 0
            while part := await reader.read(2**20):
                got += len(part)
                await asyncio.sleep(0.002)
            assert got > size
            writer.close()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_a_client_that_does_not_read_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "STALLED_S", 0.2)
    ended = asyncio.Event()

    async def large(_: Request) -> StreamingResponse:
        async def parts() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield b"x" * 2**20
                    await asyncio.sleep(0)
            finally:
                ended.set()

        return StreamingResponse(parts())

    async def work() -> None:
        app = Starlette(routes=[Route("/", large)])
        config = uvicorn.Config(app, lifespan="off", log_config=None)
        config.load()
        state = ServerState()
        server = await asyncio.get_running_loop().create_server(
            lambda: Connection(config, state, {}), "127.0.0.1", 0
        )
        async with server:
            with socket.create_connection(server.sockets[0].getsockname()) as client:
                client.sendall(b"GET / HTTP/1.1\r\nhost: h\r\n\r\n")
                await ended.wait()
                while state.connections:
                    await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(work(), 20))
