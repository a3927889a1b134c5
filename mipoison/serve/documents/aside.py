"""Keep the event loop free while a large document is read or written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, TypeVar

Result = TypeVar("Result")
# Bytes that take some 60 ms to read and write; below, a thread costs more than it frees.
_LARGE: Final = 2**20


async def aside(size: int, work: Callable[[], Result]) -> Result:
    """What the work returns; of a large document it is done in a thread.

    JSON is read and written by C code that holds the interpreter's lock, so other requests still wait for a part of
    the time. They no longer wait for all of it.

    Args:
        size: of the document, in bytes.
        work: reads or writes it.
    """
    if size <= _LARGE:
        return work()
    return await asyncio.to_thread(work)
