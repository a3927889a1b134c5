"""Why a request is refused: one status code for each reason, and the exception that carries the sentence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

# docs/guides/serve.md says when each of them comes; a test compares the two.
STATUS: Final[Mapping[str, int]] = {
    "bad_path": 400,
    "identity": 400,
    "two_lengths": 400,
    "unexpected_body": 400,
    "metrics_forbidden": 403,
    "not_listed": 404,
    "method_not_listed": 405,
    "request_timeout": 408,
    "request_too_large": 413,
    "too_many_rows": 413,
    "internal": 500,
    "upstream_unreachable": 502,
    "upstream_broke": 502,
    "upstream_redirect": 502,
    "upstream_status": 502,
    "upstream_content_type": 502,
    "upstream_encoding": 502,
    "upstream_too_large": 502,
    "upstream_not_json": 502,
    "upstream_document": 502,
    "upstream_not_probabilities": 502,
    "upstream_classes": 502,
    "too_busy": 503,
    "queue_full": 503,
    "defense_timeout": 503,
    "drift": 503,
    "shutting_down": 503,
    "not_ready": 503,
    "upstream_timeout": 504,
}
# Reasons after which the same request may well succeed in a second.
RETRY: Final = frozenset({"too_busy", "queue_full", "shutting_down"})


class Refused(Exception):
    """A request that is answered with a status code and a sentence instead of vectors.

    Args:
        reason: a key of `STATUS`.
        sentence: what was expected, what came, and what to do. It goes to the client and into the log, so it never
            holds a number or a text of the upstream's answer; counts, types and settings only.
        headers: of the response, beside those that every refusal has.
    """

    def __init__(
        self, reason: str, sentence: str, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(sentence)
        self.reason = reason
        self.status = STATUS[reason]
        self.sentence = sentence
        self.headers = dict(headers or {})
        if reason in RETRY:
            self.headers.setdefault("retry-after", "1")
