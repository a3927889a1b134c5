"""The settings of the proxy: one frozen dataclass a section of the TOML file, one field a setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

PROTOCOLS: Final = ("v2", "tfserving", "mlflow", "torchserve", "path")
# Of `mipoison.defenses.wire`, which is not imported here: help needs no torch.
MOST_DECIMALS: Final = 9
_LOOPBACK: Final = ("127.0.0.1/32", "::1/128")
_BYTES: Final = 16 * 2**20


def _told(
    told: str,
    *,
    kind: str = "text",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    flag: str | None = None,
) -> dict[str, Any]:
    """What a reader of files and flags needs of a setting.

    Args:
        told: the line of help.
        kind: "text", "path", "int", "float", "switch", "texts" or "decimals".
        low: least number.
        high: largest number.
        choices: texts that are allowed.
        flag: its name on the command line, where it is another than the field's.
    """
    return {
        "told": told,
        "kind": kind,
        "low": low,
        "high": high,
        "choices": choices,
        "flag": flag,
    }


@dataclass(frozen=True)
class Upstream:
    """The model server that answers."""

    url: str = field(
        metadata=_told("URL of the model server, such as http://127.0.0.1:8080", flag="upstream")
    )
    connect_timeout_s: float = field(
        default=2.0, metadata=_told("seconds to connect in", kind="float", low=0.01, high=3600)
    )
    timeout_s: float = field(
        default=30.0,
        metadata=_told(
            "seconds until a defended answer is whole; a passing one has to begin, and never pauses longer",
            kind="float",
            low=0.01,
            high=3600,
        ),
    )
    max_response_bytes: int = field(
        default=_BYTES, metadata=_told("largest answer that is read", kind="int", low=1, high=2**31)
    )
    keep_alive: bool = field(
        default=False,
        metadata=_told(
            "use connections again for defended answers; only where every request's body is read",
            kind="switch",
        ),
    )
    ca_file: Path | None = field(
        default=None,
        metadata=_told("certificates to trust for https, instead of the usual ones", kind="path"),
    )
    ready_path: str | None = field(
        default=None,
        metadata=_told("path that answers 200 when the upstream is ready; /readyz asks it"),
    )
    pass_error_bodies: bool = field(
        default=False,
        metadata=_told(
            "pass short bodies of errors in which no number has a fraction", kind="switch"
        ),
    )


@dataclass(frozen=True)
class Listen:
    """Where clients come in."""

    host: str = field(default="127.0.0.1", metadata=_told("address to listen on"))
    port: int = field(
        default=8000, metadata=_told("port to listen on", kind="int", low=0, high=65535)
    )
    workers: int = field(
        default=1, metadata=_told("processes that share the port", kind="int", low=1, high=256)
    )
    max_request_bytes: int = field(
        default=_BYTES, metadata=_told("largest body of a request", kind="int", low=1, high=2**31)
    )
    request_timeout_s: float = field(
        default=30.0,
        metadata=_told("seconds in which a body has to arrive", kind="float", low=0.01, high=3600),
    )
    max_concurrent: int = field(
        default=256,
        metadata=_told(
            "requests at a time in each worker; more get 503", kind="int", low=1, high=2**20
        ),
    )
    drain_s: float = field(
        default=30.0,
        metadata=_told(
            "seconds that open requests have after SIGTERM", kind="float", low=0, high=3600
        ),
    )
    metrics_allow: tuple[str, ...] = field(
        default=_LOOPBACK, metadata=_told("networks that may read /metrics", kind="texts")
    )
    metrics_token_file: Path | None = field(
        default=None,
        metadata=_told("file with a token that /metrics then asks for", kind="path"),
    )
    access_log: bool = field(
        default=True, metadata=_told("log a line for each request", kind="switch")
    )


@dataclass(frozen=True)
class Answers:
    """Where the vectors are in the upstream's JSON, what they are, and what goes out."""

    protocol: str = field(metadata=_told("form of the JSON", choices=PROTOCOLS))
    path: str | None = field(
        default=None,
        metadata=_told(
            'with protocol "path": where the vectors are, such as result.items[*].scores'
        ),
    )
    output: str | None = field(
        default=None,
        metadata=_told("name of the output that holds the vectors, where there are several"),
    )
    labels: tuple[str, ...] = field(
        default=(),
        metadata=_told(
            "the classes in the defense's order, where a vector is {label: score}", kind="texts"
        ),
    )
    gives: str = field(
        default="probabilities",
        metadata=_told("what the upstream answers with", choices=("probabilities", "logits")),
    )
    temperature: float = field(
        default=1.0, metadata=_told("of the softmax over logits", kind="float", low=1e-4, high=1e4)
    )
    decimals: int | None = field(
        default=4, metadata=_told('decimals of what goes out, 1 to 9, or "full"', kind="decimals")
    )
    top_k: int | None = field(
        default=None,
        metadata=_told(
            "answer with the k largest entries and the sum of the others",
            kind="int",
            low=1,
            high=2**20,
        ),
    )
    pass_fields: tuple[str, ...] = field(
        default=(),
        metadata=_told("fields or outputs beside the vectors that pass as they are", kind="texts"),
    )
    pass_headers: tuple[str, ...] = field(
        default=(), metadata=_told("response headers of the upstream that pass", kind="texts")
    )


@dataclass(frozen=True)
class Guard:
    """The defense and its key."""

    file: Path = field(
        metadata=_told("file that the defense's save wrote", kind="path", flag="defense")
    )
    key_env: str | None = field(
        default=None, metadata=_told("environment variable that holds the key")
    )
    key_file: Path | None = field(
        default=None, metadata=_told("file that holds the key", kind="path")
    )
    identity_header: str | None = field(
        default=None,
        metadata=_told(
            "header that names the account; randomness then derives from (key, account)"
        ),
    )
    on_drift: str = field(
        default="continue",
        metadata=_told(
            "when vectors differ from those of the fit: go on, answer labels alone, or answer 503",
            choices=("continue", "label", "refuse"),
        ),
    )
    drift_window: int = field(
        default=10_000,
        metadata=_told("rows over which drift is measured", kind="int", low=100, high=2**24),
    )
    threads: int = field(
        default=1,
        metadata=_told("threads of the defense in each worker", kind="int", low=1, high=1024),
    )


@dataclass(frozen=True)
class Routes:
    """Which requests are forwarded; all others get 404."""

    defend: tuple[str, ...] = field(
        metadata=_told(
            'whose answers are defended, such as "POST /v2/models/*/infer"', kind="texts"
        )
    )
    pass_paths: tuple[str, ...] = field(
        default=(),
        metadata=_told(
            "that pass untouched, both ways; never one that answers with scores", kind="texts"
        ),
    )


@dataclass(frozen=True)
class Batching:
    """How rows of several requests are defended together; the answers do not depend on it."""

    max_rows: int = field(
        default=256, metadata=_told("rows of a batch", kind="int", low=1, high=2**24)
    )
    wait_ms: float = field(
        default=0.0,
        metadata=_told(
            "milliseconds that a batch waits for more rows", kind="float", low=0, high=1000
        ),
    )
    max_queued_rows: int = field(
        default=65536,
        metadata=_told(
            "rows that wait in each worker, and most of one request",
            kind="int",
            low=1,
            high=2**28,
        ),
    )
    defense_timeout_s: float = field(
        default=30.0,
        metadata=_told(
            "seconds in which rows have to be defended", kind="float", low=0.01, high=3600
        ),
    )


@dataclass(frozen=True)
class Settings:
    """All settings; a field is a section of the file."""

    upstream: Upstream
    answers: Answers
    defense: Guard
    routes: Routes
    listen: Listen = Listen()
    batching: Batching = Batching()
