"""Responses: refusals, and what of the upstream's answers counts as one."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from mipoison.serve.documents.document import write_json
from mipoison.serve.failures import Refused
from mipoison.serve.proxy.headers import Headers
from mipoison.serve.proxy.upstream import Reply

JSON: Final = "application/json"


def refusal(refused: Refused, id: str) -> Response:
    """The response to a request that is refused."""
    body = write_json({"error": refused.sentence, "reason": refused.reason, "request_id": id})
    response = response_of(refused.status, body, JSON, [])
    response.headers.update(refused.headers)
    return response


def response_of(status: int, body: bytes, kind: str, beside: Headers) -> Response:
    """A response with the proxy's own headers and those that pass."""
    response = Response(body, status_code=status, headers={"content-type": kind})
    response.raw_headers += beside
    return response


def kind_of(reply: Reply) -> str:
    """The content type, of the two kinds that `is_harmless_body` lets pass; without its parameters."""
    kind = reply.content_type.partition(";")[0].strip().lower()
    return kind if reply.body and kind.isascii() else JSON


def require_json(reply: Reply) -> None:
    """Raises Refused unless the answer is a whole JSON document, by its status and headers."""
    if reply.status != 200:
        raise Refused(
            "upstream_status", f"expected 200 or an error from the upstream, got {reply.status}"
        )
    names = {name.lower() for name, _ in reply.headers}
    if b"inference-header-content-length" in names:
        raise Refused(
            "upstream_content_type",
            "expected JSON from the upstream, got the binary extension of the V2 protocol; ask for outputs with "
            "binary_data false",
        )
    kind = reply.content_type.partition(";")[0].strip().lower()
    # (TorchServe names no type; what then is no JSON is refused where it is read.)
    if kind and kind != JSON:
        raise Refused(
            "upstream_content_type",
            "expected application/json from the upstream, got another content type; only JSON can be defended",
        )
