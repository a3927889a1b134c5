"""Strict JSON, and texts and bodies in which nothing looks like a score."""

from __future__ import annotations

import pytest

from mipoison.serve.documents.document import is_harmless, is_harmless_body, read_json, write_json
from mipoison.serve.failures import Refused


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe{\x00}\x00",
        b"\xef\xbb\xbf{}",
        b'{"predictions": [[NaN, 1]]}',
        b'{"predictions": [[Infinity, 1]]}',
        b'{"predictions": [[-Infinity, 1]]}',
        b'{"a": 1, "a": 2}',
        b'{"p": [{"a": 1, "a": 2}]}',
        b"[" * 100_000,
        b"[" * 100_000 + b"]" * 100_000,
        b"[" + b"1" * 5000 + b"]",
        b"{} {}",
    ],
    ids=lambda body: repr(body[:20]),
)
def test_a_body_that_is_no_strict_json_is_refused(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        read_json(body)
    assert caught.value.reason == "upstream_not_json"


@pytest.mark.parametrize("body", [b'{"x": 1e400}', b'{"x": "\\ud800"}', b'{"\\udc00": 1}'])
def test_what_json_cannot_hold_is_not_written(body: bytes) -> None:
    with pytest.raises(Refused) as caught:
        write_json(read_json(body))
    assert caught.value.reason == "upstream_document"


@pytest.mark.parametrize(
    ("text", "harmless"),
    [
        ("resnet-50", True),
        ("model 3 of 7", True),
        ("v1.2.3 at 10.0.0.1", True),
        ("3e45ab12-77e5-4e1f-8a3e-4512ab34cd56", True),
        ("a3e45b", True),
        ("Größe 2 – 模型第3版", True),
        ("0.73", False),
        (".73", False),
        ("1.5", False),
        ("7,3", False),
        ("7e-1", False),
        ("7E-01", False),
        ("[9.e-01 1.e-05]", False),
        ("1.E-02", False),
        ("9.e5", False),
        ("1e+00", False),
        ("[1. 0.]", False),
        ("\u0660\u066b\u0667", False),
        ("0\u066b7", False),
        ("x\x00y", False),
        ("0\\u002e73", False),
        ("\\u{30}\\u{2e}73", False),
        ("0\\x2E73", False),
        ("0\\05673", False),
        ("0\\N{FULL STOP}73", False),
        ("0&#46;73", False),
        ("0&period;73", False),
        ("0%2e73", False),
        ("=?utf-8?q?0=2E73?=", False),
        (r"C:\users\models, 100% of 3 & more; a=b", True),
        ("a" * 257, False),
    ],
)
def test_texts_that_look_like_scores(text: str, harmless: bool) -> None:
    assert is_harmless(text) is harmless


JSON = "application/json"


@pytest.mark.parametrize(
    ("body", "kind", "harmless"),
    [
        (b'{"error": "model m is not ready"}', JSON, True),
        (b'{"detail":[{"loc":["body",0,"x"],"msg":"missing"}]}', JSON, True),
        (b'{"code": 404, "at": 12}', "application/problem+json; charset=utf-8", True),
        (b"not ready", "text/plain; charset=utf-8", True),
        (b"", "text/html", True),
        (b"<h1>Bad Gateway</h1>", "text/html", False),
        (b"not ready", "", False),
        (b"\xff", "text/plain", False),
        (b"{", JSON, False),
        (b'{"error": "expected at most 1, got 0.73"}', JSON, False),
        (b'{"error": "\\u0030.73"}', JSON, False),
        (b'{"error": "0\\u002e73"}', JSON, False),
        (b'{"0\\u002e73": 1}', JSON, False),
        (b'{"scores": [1, 0]}', JSON, False),
        (b'{"scores": [1 , 0]}', JSON, False),
        (b'{"a": 1, "b": 0, "c": 0}', JSON, False),
        (b'{"error": 7E0}', JSON, False),
        (b"scores 1,0", "text/plain", False),
        (b'{"error": "\\u0030\\u002e73"}', "text/plain", False),
        (b'{"error": "0\\\\u002e73"}', JSON, False),
        (b'{"error": "Gr\\u00f6\\u00dfe"}', JSON, True),
        (b"a" * 1001, "text/plain", False),
    ],
)
def test_bodies_of_errors_that_may_pass(body: bytes, kind: str, harmless: bool) -> None:
    assert is_harmless_body(body, kind, longest=1000) is harmless
