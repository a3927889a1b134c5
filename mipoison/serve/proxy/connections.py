"""Connections of clients: one parser of HTTP whatever is installed, and no wait between the parts of an answer."""

from __future__ import annotations

import asyncio
import socket

from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """A client's connection, whose small packets are sent at once.

    Uvicorn writes headers and body one after another. Where several workers share its socket it leaves Nagle's
    algorithm on, which keeps the body back until the client has confirmed the headers: 40 ms for each request.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turns Nagle's algorithm off."""
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and made.family in (socket.AF_INET, socket.AF_INET6):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
