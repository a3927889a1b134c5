"""When a meter alarms, when it does not, and what is served meanwhile."""

from __future__ import annotations

import dataclasses
import logging
import threading
from typing import Any

import pytest
import torch
from distributions import draw
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import Rounding
from mipoison.eval.data.bundled import load_digits
from mipoison.eval.data.splits import joined
from mipoison.serve import Expected, Readings, drift

K = 10


def usual(n: int, seed: int) -> Tensor:
    return draw("plain", n, K, seed).float()


def peaked(n: int) -> Tensor:
    """Rows that rounding hardly moves."""
    return torch.softmax(12 * nn.functional.one_hot(torch.arange(n) % K, K).float(), 1)


def metered(**given: Any) -> mp.Meter:
    return mp.Meter(Rounding(1), window=500, expected=usual(400, seed=90), **given)


# The rule.


def sampled(values: Tensor, unchanged: int = 0, far: int = 0) -> drift.Sample:
    return drift.Sample(len(values), float(values.mean()), float(values.std()), unchanged, far)


def test_false_alarms_at_the_edge_are_rarer_than_alpha(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traffic that is just allowed: at the upper edge of a band, each test alarms with probability alpha at most."""
    monkeypatch.setattr(drift, "ALPHA", 0.05)
    told = Expected(
        rows=1000, kept_out=True, l1=0.1, deviation=0.1, unchanged=0.2, distance=0.1, far=0.3
    )
    edges = drift.bands(told)
    generator = torch.Generator().manual_seed(0)
    trials, n = 2000, 400
    alarms = {"l1": 0, "unchanged": 0, "far": 0}
    for _ in range(trials):
        # The most that rows of such a mean can vary.
        l1 = 0.8 * (torch.rand(n, generator=generator) < edges["l1"].high / 0.8).double()
        counts = {
            name: int((torch.rand(n, generator=generator) < edges[name].high).sum())
            for name in ("unchanged", "far")
        }
        inside = torch.full((n,), told.l1, dtype=torch.float64)
        alarms["l1"] += drift.alarm(sampled(l1, n // 5, 0), told, 0.8) is not None
        alarms["unchanged"] += (
            drift.alarm(sampled(inside, counts["unchanged"], 0), told, 0.8) is not None
        )
        alarms["far"] += drift.alarm(sampled(inside, n // 5, counts["far"]), told, 0.8) is not None
    assert all(count <= 0.05 * trials for count in alarms.values())
    # And the bounds are not idle: the two of shares are within a factor of their level.
    assert all(alarms[name] > 0.001 * trials for name in ("unchanged", "far"))


def test_alarm_names_what_left_its_band() -> None:
    told = Expected(
        rows=1000, kept_out=True, l1=0.1, deviation=0.1, unchanged=0.05, distance=0.1, far=0.3
    )
    still = torch.full((2000,), 0.1, dtype=torch.float64)
    assert drift.alarm(sampled(still, 100, 200), told, 0.8) is None
    assert "mean l1 0.0333 instead of 0.1" in str(drift.alarm(sampled(still / 3, 100), told, 0.8))
    assert "mean l1" in str(drift.alarm(sampled(still * 3, 100), told, 0.8))
    assert "share unchanged 0.44" in str(drift.alarm(sampled(still, 880), told, 0.8))
    assert "far from the bank" in str(drift.alarm(sampled(still, 100, 1000), told, 0.8))
    # Nearer than the kept-out rows is no drift.
    assert drift.alarm(sampled(still, 100, 0), told, 0.8) is None
    # A row or a few tell nothing.
    assert drift.alarm(drift.Sample(1, 0.0, 0.0, 1, 1), told, 0.8) is None
    assert drift.alarm(sampled(still[:3] / 3, 3), told, 0.8) is None


def test_it_has_settled_only_inside_all_bands() -> None:
    told = Expected(rows=1000, kept_out=True, l1=0.1, deviation=0.1, unchanged=0.05)
    high = drift.bands(told)["l1"].high
    assert drift.settled(drift.Sample(500, high - 1e-6, 0.1, 25, 0), told)
    assert not drift.settled(drift.Sample(500, high + 1e-6, 0.1, 25, 0), told)
    assert not drift.settled(drift.Sample(500, 0.1, 0.1, 250, 0), told)


# A meter.


def test_traffic_like_the_expected_never_alarms() -> None:
    meter = metered()
    for seed in range(100):
        meter(usual(500, seed))
    seen = meter.read()
    assert (seen.rows, seen.alarms, seen.reason) == (50_000, 0, "")


def test_onset_and_recovery_are_told_once() -> None:
    told: list[Readings] = []
    meter = metered(callbacks=[told.append])
    meter(usual(500, 1))
    for _ in range(10):
        meter(peaked(100))
    assert len(told) == 1 and told[0].drifting == 1 and "mean l1" in told[0].reason
    # It was noticed by the time that the window held nothing else.
    assert told[0].rows <= 1000
    assert meter.read().alarms == 1 and meter.read().reason
    for seed in range(12):
        meter(usual(100, seed))
    assert len(told) == 2 and told[1].drifting == 0 and told[1].reason == ""
    assert meter.read().alarms == 1


def test_a_callback_may_read_and_ask_and_raise(caplog: pytest.LogCaptureFixture) -> None:
    seen: list[int] = []

    def asks(readings: Readings) -> None:
        seen.append(meter.read().rows)
        meter(usual(1, 3))

    def breaks(readings: Readings) -> None:
        raise OSError("no pager")

    meter = metered(callbacks=[breaks, asks])
    with caplog.at_level(logging.WARNING, "mipoison.serve"):
        q = meter(peaked(500))
    assert torch.equal(q, Rounding(1)(peaked(500)))
    assert seen == [500] and meter.read().rows == 501
    assert meter.read().callback_errors == 1
    assert "no pager" in caplog.text and "traffic drifts: mean l1" in caplog.text


def test_label_alone_while_it_drifts() -> None:
    meter = metered(on_drift="label")
    p = usual(500, 1)
    assert torch.equal(meter(p), Rounding(1)(p))
    odd = peaked(500)
    # (The call whose rows tell is answered as before: an answer does not depend on other rows of its batch.)
    assert torch.equal(meter(odd), Rounding(1)(odd)) and meter.read().withheld == 0
    q = meter(odd)
    assert torch.equal(q, nn.functional.one_hot(odd.argmax(1), K).float())
    assert meter.read().withheld == 500
    assert meter(odd[:2].half()).dtype == torch.float16
    assert meter(odd[:2].numpy()).tolist() == q[:2].tolist()
    # What the defense would have answered is measured still, and so it ends.
    for seed in range(6):
        meter(usual(100, seed))
    assert torch.equal(meter(p), Rounding(1)(p)) and not meter.read().drifting


def test_label_alone_shows_no_label_that_lfp_hides() -> None:
    flips = mp.LFP(rate=0.5, key=1, on_invalid="label")
    told = Expected(rows=500, kept_out=True, l1=1.9, deviation=0.01, unchanged=0.0)
    meter = mp.Meter(flips, expected=told, on_drift="label", window=100)
    p = usual(400, 1)
    p[7, 0] = torch.nan
    meter(p)
    assert meter.read().drifting == 1
    q = meter(p)
    # An invalid row is a failure, and no row counts twice.
    assert meter.read().withheld == 399 and meter.failures == 2 and meter.label_only == 401
    valid = torch.arange(400) != 7
    assert torch.equal(q.argmax(1)[valid], flips(p).argmax(1)[valid])
    assert bool((q[valid].amax(1) == 1).all()) and not torch.equal(
        q.argmax(1)[valid], p.argmax(1)[valid]
    )
    assert torch.equal(q[7], torch.full((K,), 1 / K))


def test_refusal_while_it_drifts() -> None:
    meter = metered(on_drift="refuse")
    meter(usual(500, 1))
    meter(peaked(500))
    with pytest.raises(mp.Drift, match=r"got mean l1 .* instead of .*; look at what is sent"):
        meter(peaked(500))
    with pytest.raises(mp.Drift):
        meter(usual(1, 1))
    seen = meter.read()
    assert (seen.rows, seen.withheld, seen.errors) == (1501, 501, 0) and meter.label_only == 0
    for seed in range(10):
        try:
            meter(usual(100, seed))
        except mp.Drift:
            continue
    assert meter.read().drifting == 0
    meter(usual(1, 1))
    assert issubclass(mp.Drift, RuntimeError)


def test_an_answer_does_not_depend_on_the_rows_beside_it() -> None:
    p = usual(1, 3)
    beside, alone = metered(on_drift="label"), metered(on_drift="label")
    assert torch.equal(beside(torch.cat((p, peaked(500))))[:1], alone(p))


def test_changes_are_told_in_order() -> None:
    """A thread whose callback takes long is not overtaken by the thread whose call ends drift."""
    entered, go_on = threading.Event(), threading.Event()
    told: list[int] = []

    def slow(readings: Readings) -> None:
        if readings.drifting:
            entered.set()
            assert go_on.wait(10)
        told.append(readings.drifting)

    meter = metered(callbacks=[slow])
    thread = threading.Thread(target=meter, args=(peaked(500),))
    thread.start()
    assert entered.wait(10)
    for seed in range(12):
        meter(usual(100, seed))
    assert meter.read().drifting == 0
    go_on.set()
    thread.join()
    assert told == [1, 0]


def test_a_callback_that_exits_changes_no_answer() -> None:
    def exits(readings: Readings) -> None:
        raise SystemExit("no pager")

    meter = metered(callbacks=[exits])
    assert torch.equal(meter(peaked(500)), Rounding(1)(peaked(500)))
    assert meter.read().callback_errors == 1


def test_nothing_expected_is_never_drift() -> None:
    meter = mp.Meter(Rounding(1), window=100)
    meter(usual(500, 1))
    meter(peaked(500))
    assert meter.read().alarms == 0


# What a fit expects.


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Tensor]:
    """A linear classifier of digits, and images that it was not trained on."""
    parts = load_digits(0)
    images = joined(parts.private, parts.defender, parts.auxiliary, parts.victims)
    x, y = images.inputs, images.labels
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(64, K), nn.Softmax(-1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        nn.functional.nll_loss((model(x[:400]) + 1e-9).log(), y[:400]).backward()
        optimizer.step()
    return model.eval().requires_grad_(False), x[400:]


@pytest.fixture(scope="module")
def defense(digits: tuple[nn.Module, Tensor]) -> mp.LPA:
    model, x = digits
    return mp.LPA.fit(model(x[:260]), x[:260], objective="generator", budget=0.1, key=1)


def test_fresh_rows_do_what_the_fit_expects(
    digits: tuple[nn.Module, Tensor], defense: mp.LPA
) -> None:
    model, x = digits
    told = defense.expected
    assert told is not None and told.kept_out and 80 < told.rows < 100
    meter = mp.Meter(defense, window=1000)
    meter(model(x[260:]))
    seen = meter.read()
    now = seen.since_start
    band = drift.bands(told)
    assert seen.alarms == 0
    assert band["l1"].holds(now.l1.mean) and band["unchanged"].holds(now.share_unchanged)
    assert band["far"].holds(now.share_far)
    assert now.distance is not None and told.distance is not None
    assert now.distance.p50 == pytest.approx(told.distance, rel=0.3)


def test_inverted_images_alarm(digits: tuple[nn.Module, Tensor], defense: mp.LPA) -> None:
    model, x = digits
    meter = mp.Meter(defense, window=1000)
    for some in (1 - x).split(100):
        meter(model(some))
    assert meter.read().alarms == 1


def test_what_is_expected_is_saved(defense: mp.LPA, tmp_path: Any) -> None:
    defense.save(tmp_path / "lpa.safetensors")
    assert mp.load(tmp_path / "lpa.safetensors", key=1).expected == defense.expected
    other = mp.LPA.fit(usual(60, 1), torch.rand(60, 3), objective="decoy", key=1)
    assert other.expected is not None and other.expected.l1 == pytest.approx(0.2, rel=0.1)
    twin = mp.LPA.fit(usual(60, 2), torch.rand(60, 3), objective="decoy", key=1)
    twin.load_state_dict(other.state_dict())
    assert twin.expected == other.expected


def test_a_file_that_tells_nothing_of_fresh_rows_is_refused(
    defense: mp.LPA, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = type(defense.objective).settings
    monkeypatch.setattr(
        type(defense.objective),
        "settings",
        lambda self: {k: v for k, v in kept(self).items() if k != "expected"},
    )
    defense.save(tmp_path / "old.safetensors")
    with pytest.raises(ValueError, match="another version of mipoison saved it; fit it again"):
        mp.load(tmp_path / "old.safetensors", key=1)


@pytest.mark.parametrize("rows", [60, 200])
def test_where_no_row_is_kept_out_less_is_expected(rows: int) -> None:
    """None are kept out of the game on few rows: bands are twice as wide, and below 128 nothing is known."""
    p = usual(rows, 1)
    defense = mp.LPA.fit(p, torch.rand(rows, 3), objective="generator", budget=0.1, key=1)
    told = defense.expected
    assert (told is None) == (rows == 60)
    if told is not None:
        assert not told.kept_out and told.rows == rows
        wide, narrow = drift.bands(told), drift.bands(dataclasses.replace(told, kept_out=True))
        assert wide["far"] == narrow["far"]
        for name in ("l1", "unchanged"):
            assert wide[name].high > narrow[name].high
        return
    with pytest.raises(ValueError, match="pass expected="):
        mp.Meter(defense, on_drift="label")
    meter = mp.Meter(defense, on_drift="label", expected=usual(50, 2))
    assert meter.expected is not None and meter.expected.far is not None


def test_groups_are_measured_without_their_copies() -> None:
    """The other copies of an image lie near it in the bank; a fresh image has none there."""
    p = draw("plain", 150, 20, 1).float()
    x = torch.rand(150, 3)
    twice = torch.cat((p, 0.999 * p + 0.001 / 20))
    fitted = mp.LPA.fit(
        twice,
        torch.cat((x, x)),
        objective="generator",
        budget=0.1,
        key=1,
        groups=torch.arange(150).repeat(2),
    )
    assert fitted.expected is not None and fitted.expected.distance is not None
    assert fitted.expected.kept_out and fitted.expected.rows == 100
    assert fitted.expected.distance > 0.05
