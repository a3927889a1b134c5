"""Connections of clients send small packets at once, whichever way their socket was made."""

from __future__ import annotations

import asyncio
import socket

import uvicorn
from starlette.applications import Starlette
from uvicorn.server import ServerState

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
