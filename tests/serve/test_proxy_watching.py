"""Health, readiness, metrics and logs of the proxy."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from serving import DEFEND, PATH, asked, json_of, proxied, run, settings_of

from mipoison.defenses import Rounding
from mipoison.serve.documents.vectors import Answered, Array
from mipoison.serve.proxy import upstream

P = [[0.7123, 0.1877, 0.1], [0.3, 0.3, 0.4]]
GOOD = json_of({"predictions": P})
ALLOWED = {"content-type", "content-length", "x-request-id"}


def broken(rows: Array, ids: Any) -> Answered:
    raise ValueError("expected probabilities, got 0.7123")


def unreadable(_: httpx.Request) -> httpx.Response:
    raise KeyError("0.7123")


def test_health_and_readiness(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "_READY_KEPT_S", 0.0)
    up = {"ready": True}

    def handle(request: httpx.Request) -> httpx.Response:
        assert request.url.path == "/v2/health/ready"
        if up["ready"] is None:
            raise httpx.ConnectError("")
        return httpx.Response(200 if up["ready"] else 503)

    async def work() -> None:
        async with proxied(settings_of(ready_path="/v2/health/ready"), handle) as client:
            assert (await client.get("/healthz")).json() == {"status": "ok"}
            assert (await client.get("/readyz")).json() == {"status": "ready"}
            for state in (False, None):
                up["ready"] = state  # type: ignore[assignment]
                got = await client.get("/readyz")
                assert (got.status_code, got.json()["reason"]) == (503, "not_ready")
            assert (await client.get("/healthz")).status_code == 200
            assert (await client.post("/healthz")).status_code == 404

    run(work())


def test_readiness_is_asked_once_at_a_time_and_takes_no_connection() -> None:
    asked: list[str] = []

    async def handle(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        await asyncio.sleep(0.05)
        return httpx.Response(200, content=b"x" * 10)

    async def work() -> None:
        async with proxied(settings_of(ready_path="/ready"), handle) as client:
            got = await asyncio.gather(*(client.get("/readyz") for _ in range(20)))
            assert {response.status_code for response in got} == {200}

    run(work())
    assert asked == ["/ready"]


def test_metrics_count_requests_rows_and_moves() -> None:
    async def work() -> str:
        settings = settings_of()
        async with proxied(settings, GOOD, answer=None, defense=Rounding(1)) as client:
            await client.post(PATH)
            await client.post(PATH + "x")
            return (await client.get("/metrics")).text

    page = run(work())
    lines = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(lines['mipoison_requests_total{reason="ok",status="200"}']) == 1
    assert float(lines['mipoison_requests_total{reason="not_listed",status="404"}']) == 1
    assert float(lines["mipoison_rows_total"]) == float(lines["mipoison_row_l1_count"]) == 2
    assert float(lines["mipoison_requests_in_flight"]) == 0
    assert float(lines["mipoison_rows_unchanged_total"]) == 1


@pytest.mark.parametrize(
    ("address", "headers", "status"),
    [
        ("127.0.0.1", {}, 200),
        ("10.1.2.3", {}, 200),
        ("::ffff:10.1.2.3", {}, 200),
        ("::1", {}, 403),
        ("192.0.2.1", {}, 403),
        ("testclient", {}, 403),
        ("127.0.0.1", {"x-forwarded-for": "127.0.0.1"}, 403),
        ("127.0.0.1", {"X-Forwarded-Proto": "https"}, 403),
        ("127.0.0.1", {"via": "1.1 a"}, 403),
        ("127.0.0.1", {"cf-ray": "1"}, 403),
    ],
)
def test_metrics_are_for_listed_networks(
    address: str, headers: dict[str, str], status: int
) -> None:
    settings = settings_of(metrics_allow=("127.0.0.1/32", "10.0.0.0/8"))
    got = asked(settings, GOOD, method="GET", path="/metrics", headers=headers, address=address)
    assert got.status_code == status


def test_metrics_are_for_who_has_the_token(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    settings = settings_of(metrics_token_file=file)
    for given, status in (
        ({}, 403),
        ({"authorization": "Bearer 0123456789abcdee"}, 403),
        ({"authorization": "Bearer é"}, 403),
        ({"authorization": "Bearer 0123456789abcdef"}, 200),
    ):
        headers = [(name, value.encode("latin-1")) for name, value in given.items()]
        got = asked(settings, GOOD, method="GET", path="/metrics", headers=headers)  # type: ignore[arg-type]
        assert got.status_code == status
    file.write_text("short")
    with pytest.raises(ValueError, match="16 characters"):
        settings_of(metrics_token_file=file)


def test_logs_hold_no_vector_key_or_header(caplog: pytest.LogCaptureFixture) -> None:
    from mipoison.serve.proxy import logs

    formatter = logs._Lines()
    with caplog.at_level("INFO", logger="mipoison.serve"):
        asked(settings_of(), GOOD, path=f"{PATH}?token=s3cret", headers={"authorization": "s3cret"})
        asked(settings_of(), GOOD, answer=broken)
        asked(settings_of(), unreadable)
    lines = [
        formatter.format(record) for record in caplog.records if record.name == "mipoison.serve"
    ]
    told = [json.loads(line) for line in lines]
    requests = [line for line in told if line["event"] == "request"]
    assert [line["status"] for line in requests] == [200, 500, 500]
    assert requests[0]["route"] == DEFEND[0] and requests[0]["rows"] == 2
    errors = [line["error"] for line in told if line["event"] == "error"]
    assert errors == ["ValueError", "KeyError"]
    assert not any(text in line for line in lines for text in ("7123", "s3cret", "token"))
