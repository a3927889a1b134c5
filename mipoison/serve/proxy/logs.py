"""Logs as JSON lines on standard error: no vector, no key, no header, no query string, no message of an exception.

A message may quote what it was raised for, such as the sum of a row; so only the type and the place are logged.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import traceback
import uuid
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any, Final

LOGGER: Final = logging.getLogger("mipoison.serve")
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_FIELDS: Final = "mipoison_fields"
_PLACES: Final = 3
_ASYNCIO: Final = "asyncio"


class _Lines(logging.Formatter):
    """A record as one line of JSON."""

    def format(self, record: logging.LogRecord) -> str:
        time = datetime.fromtimestamp(record.created, timezone.utc).isoformat(
            timespec="milliseconds"
        )
        line: dict[str, Any] = {
            "time": time,
            "level": record.levelname.lower(),
            "worker": record.process,
        }
        fields = getattr(record, _FIELDS, None)
        if record.name == _ASYNCIO:
            # Its message quotes tasks and futures, and with them what they raised.
            line |= {
                "event": "server",
                "message": "asyncio: an error that nobody waited for, or a delay",
            }
        elif fields is None:
            line |= {"event": "server", "message": record.getMessage()}
        else:
            line |= {"event": record.msg, **fields}
        if record.exc_info and record.exc_info[0] is not None:
            line |= _of_exception(record.exc_info[0], record.exc_info[2])
        return json.dumps(line, default=str)


def configure(*, level: int = logging.INFO) -> None:
    """Sends the logs of the proxy and its server to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines())
    for name in ("mipoison.serve", "uvicorn.error", _ASYNCIO):
        logger = logging.getLogger(name)
        logger.handlers = [handler]
        logger.setLevel(level)
        logger.propagate = False
    logging.getLogger("uvicorn.access").disabled = True


def log(
    event: str, *, level: int = logging.INFO, error: BaseException | None = None, **fields: Any
) -> None:
    """Writes a line.

    Args:
        event: what happened.
        level: of `logging`.
        error: of which the type and the place are added.
        fields: further ones; never anything of a vector, a key or a header.
    """
    info = None if error is None else (type(error), error, error.__traceback__)
    LOGGER.log(level, event, extra={_FIELDS: fields}, exc_info=info)


def request_id(given: str | None) -> str:
    """The id that the client gave, if it is a plain text of at most 128 characters; else a new one."""
    if given is not None and _REQUEST_ID.fullmatch(given):
        return given
    return uuid.uuid4().hex


def _of_exception(kind: type[BaseException], trace: TracebackType | None) -> dict[str, Any]:
    frames = traceback.extract_tb(trace)[-_PLACES:]
    places = [f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": kind.__name__, "where": places}
