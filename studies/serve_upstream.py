"""A model server for the proxy's tests and studies, every number of which tells by its digits whose row it is.

    python studies/serve_upstream.py PORT

`POST /invocations` takes {"rows": [number, …], "as": form} and answers in MLflow's form with the vector of each row, or
with something that is no such answer: see `BROKEN`. A query ?s=1 makes it answer after as many seconds.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

CLASSES: Final = 10
# Rows of this number and above are unlike those before: soft where those are confident.
UNLIKE: Final = 500_000
# Decimals that are the vector's own, and those that hold the row's number.
_OWN, _TAG = 4, 6


@lru_cache(maxsize=4096)
def texts_of(row: int) -> tuple[str, ...]:
    """The numbers of a row as they are sent: four decimals of its own, then the six digits of its number.

    Every entry is at least 0.002; all but the largest carry the row's number, and the largest makes the sum one.

    Example:
        >>> texts_of(7)[1][-6:], round(sum(map(float, texts_of(7))), 9)
        ('000007', 1.0)
    """
    generator = np.random.default_rng(row)
    logits = generator.normal(size=CLASSES) * (0.3 if row >= UNLIKE else 2.0)
    scores = np.exp(logits - logits.max())
    # In units of the last own decimal.
    units = np.maximum(np.round(scores / scores.sum() * 10**_OWN).astype(int), 20)
    units[units.argmax()] += 10**_OWN - units.sum()
    tagged = [int(unit) * 10**_TAG + row for unit in units]
    tagged[int(units.argmax())] -= CLASSES * row
    return tuple(f"0.{number:0{_OWN + _TAG}d}" for number in tagged)


def body_of(rows: list[int]) -> str:
    """The answer to some rows."""
    vectors = ",".join("[" + ",".join(texts_of(row)) + "]" for row in rows)
    return f'{{"predictions":[{vectors}]}}'


def _json(text: str, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(text, status, named, "application/json")


# What a faulty or changed server may answer, each with undefended numbers in it.
BROKEN: Final[dict[str, Callable[[str], Response]]] = {
    "html": lambda text: Response(f"<pre>{text}</pre>", media_type="text/html"),
    "half": lambda text: _json(text[: len(text) // 2]),
    "nan": lambda text: _json(text.replace("0.", "NaN, 0.", 1)),
    "more classes": lambda text: _json(text.replace("],", ",0.5],").replace("]]", ",0.5]]")),
    "no probabilities": lambda text: _json(text.replace("[0.", "[-3.", 1)),
    "other place": lambda text: _json(text.replace("predictions", "scores")),
    "error with scores": lambda text: _json(text, 500),
    "error in words": lambda text: PlainTextResponse(f"could not scale {text}", 422),
    "success of another kind": lambda text: _json(text, 206),
    "redirect": lambda text: _json(text, 307, location=f"/elsewhere?was={text[16:28]}"),
    "scores beside": lambda text: _json('{"logits":' + text[15:-1] + "," + text[1:]),
    "scores in headers": lambda text: _json(text, etag=text[16:28], retry_after=text[16:28]),
}
# Those whose vectors are right, and what stands beside is not.
STILL_ANSWERED: Final = frozenset({"scores beside", "scores in headers"})


async def _predict(request: Request) -> Response:
    asked: dict[str, Any] = json.loads(await request.body())
    await asyncio.sleep(float(request.query_params.get("s", 0)))
    text = body_of(asked["rows"])
    form = asked.get("as")
    return _json(text) if form is None else BROKEN[form](text)


async def _ready(_: Request) -> Response:
    return PlainTextResponse("ready")


def command(port: int) -> list[str]:
    """The command that starts this server."""
    return [sys.executable, __file__, str(port)]


if __name__ == "__main__":
    app = Starlette(
        routes=[Route("/invocations", _predict, methods=["POST"]), Route("/ready", _ready)]
    )
    uvicorn.run(app, port=int(sys.argv[1]), log_level="error", access_log=False)
