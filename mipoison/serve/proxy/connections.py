"""Connections of clients: one parser of HTTP whatever is installed, and no wait between the parts of an answer."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from uvicorn.protocols.http.h11_impl import H11Protocol

# Seconds in which a client has to take so many bytes of what waits for it, or all but 16 KiB.
STALLED_S: Final = 30.0
LEAST_BYTES: Final = 64 * 1024


class Connection(H11Protocol):
    """A client's connection, whose small packets are sent at once.

    Uvicorn writes headers and body one after another. Where several workers share its socket it leaves Nagle's
    algorithm on, which keeps the body back until the client has confirmed the headers: 40 ms for each request.

    A client that asks and does not read would hold memory and one of the requests that are answered at a time: it is
    cut off.
    """

    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Turns Nagle's algorithm off."""
        super().connection_made(transport)
        made = transport.get_extra_info("socket")
        if made is not None and made.family in (socket.AF_INET, socket.AF_INET6):
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def pause_writing(self) -> None:
        """Gives the client a time to read."""
        super().pause_writing()
        self._watch()

    def resume_writing(self) -> None:
        """The client has read."""
        self._forget_stall()
        super().resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has gone."""
        self._forget_stall()
        super().connection_lost(exc)

    def _watch(self) -> None:
        most = self.transport.get_write_buffer_size() - LEAST_BYTES

        def look() -> None:
            if self.transport.get_write_buffer_size() > most:
                # (To close would wait for the client once more.)
                self.transport.abort()
            else:
                self._watch()

        self._stalled = self.loop.call_later(STALLED_S, look)

    def _forget_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
