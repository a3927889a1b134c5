"""Checks of the benchmarks: radii, rivals, timing, the generated page, and a soak test that can fail."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import render
import soak
import tables
import targets
import torch
from contestants import arguments, by_newton, by_sorting, by_sparsemax, newton_steps
from measurements import Measurement, read
from oracle import assert_matches_reference
from rows import ORDER, binding_radius, peaked, touching
from soak_calls import Call
from timing import median_seconds

ROOT = Path(__file__).parents[1]
NBYTES = 80_000


@pytest.mark.parametrize("norm", ORDER)
@pytest.mark.parametrize("k", [2, 10, 100, 1000])
def test_binding_radius_is_reached_by_most_rows(k: int, norm: str) -> None:
    p, g = peaked(k, NBYTES)
    epsilon = binding_radius(p, g, norm)
    q = torch.ops.mipoison.step(*arguments(p, g, epsilon, norm))[0]
    assert 0.8 <= touching(q, p, epsilon, norm) < 1
    assert touching(p, p, epsilon, norm) == 0


@pytest.mark.parametrize("k", [2, 10, 100, 1000])
def test_contestants_give_the_same_answer(k: int) -> None:
    p, g = peaked(k, NBYTES)
    ours = torch.ops.mipoison.step(*arguments(p, g))[0]
    pool, threshold = newton_steps(p, g)
    assert torch.allclose(by_newton(p, g, pool, threshold), ours, atol=2e-6, rtol=0)
    # One step fewer must be too few, or the rival would be slower than necessary.
    exact = by_newton(p.double(), g.double(), 20, 20)
    short = by_newton(p.double(), g.double(), pool, threshold - 1)
    assert float((short - exact).abs().max()) > 1e-6
    for rival in (by_sorting, by_sparsemax):
        theirs = rival(p, g)
        same = theirs.argmax(1) == p.argmax(1)
        assert same.any() and torch.allclose(theirs[same], ours[same], atol=1e-5, rtol=0)


def test_wrong_answers_are_not_timed() -> None:
    p, g = peaked(10, NBYTES)
    given = arguments(p, g)
    q = torch.ops.mipoison.step(*given)[0]
    assert_matches_reference("step", q, *given)
    q[0, 0] += 1e-5
    with pytest.raises(AssertionError, match="expected step within 5e-07 of the reference"):
        assert_matches_reference("step", q, *given)


def test_median_seconds_are_scaled_to_one_call_on_all_rows() -> None:
    times = {"step": [3.0, 1.0, 2.0], "sort": [4.0, 4.0, 9.0]}
    assert median_seconds(times, 100, {"sort": 10}, 2) == {"step": 1.0, "sort": 20.0}


# The page.


def race(k: int, norm: str = "none", device: str = "cpu", **seconds: float) -> Measurement:
    """A measurement of `step` on a thousand rows, seconds by contestant."""
    conditions: dict[str, Any] = {
        "operation": "step",
        "group": "throughput",
        "k": k,
        "n": 1000,
        "dtype": "float32",
        "norm": norm,
        "epsilon": None if norm == "none" else 0.1,
        "threads": 1,
        "device": device,
        "bytes": 12 * k * 1000,
    }
    return Measurement(conditions, {name.replace("_", " "): s for name, s in seconds.items()})


def cells(text: str, first: str) -> list[str]:
    """The cells of the one row of a Markdown table whose first cells are `first`."""
    (line,) = [line for line in text.splitlines() if line.startswith(f"| {first} |")]
    return line.strip("| ").split(" | ")


def test_first_table_compares_figures_with_targets() -> None:
    ball = Measurement(
        race(10, "l1").conditions,
        {"step": 5e-3, "step, no ball": 1e-3, "softmax": 1e-2, "add": 1e-4},
    )
    judge = tables.Judge()
    text = tables.steps([race(10, step=1e-3, softmax=5e-3, add=1e-4), ball], judge)
    row = cells(text, "10")
    assert row[1:5] == ["0.1", "5 000", "0.500", "5.00 met"]
    assert row[5:10] == ["1 000", "0.120", "10.0 missed", "0.200 missed", "≤ 0.15"]
    assert judge.met == 1
    assert judge.summary().startswith(
        "1 of 3 figures meet their target. Missed:\n\n- no ball ÷ add"
    )


def test_targets_for_rivals_are_lower_bounds() -> None:
    slow = race(10_000, step=1.0, sort=12.0, compiled_newton=3.0)
    row = cells(tables.others([slow], tables.Judge()), "10 000")
    assert "12.0 met" in row and "3.00 missed" in row


def test_later_results_replace_earlier_ones() -> None:
    text = tables.steps([race(10, step=1.0, add=1.0), race(10, step=2.0, add=1.0)], tables.Judge())
    assert "2.00 met" in text and "1.00 met" not in text


@pytest.mark.parametrize(
    ("k", "dtype", "norm", "limit"),
    [
        (1000, "float32", "none", 1.4),
        (100, "float32", "none", 2.5),
        (10_000, "float16", "none", 2.5),
        (1000, "float32", "l1", None),
        (128_000, "float32", "none", None),
    ],
)
def test_targets_on_a_gpu(k: int, dtype: str, norm: str, limit: float | None) -> None:
    target = targets.over_add_on_gpu(k, dtype, norm)
    assert (target.limit if target else None) == limit


def test_separate_table_for_a_gpu() -> None:
    machine = {"last_level_cache": 2**25, "tensor_bytes": 2**27}
    runs = [
        render.Run(
            "a.json", "2026-01-02", "abc", machine, (race(1000, device="B200", step=1.5, add=1.0),)
        ),
        render.Run("b.json", "2026-01-01", "abc", machine, (race(10, step=1.0, add=1.0),)),
    ]
    cpu, gpu = render.block(runs).split("## On a GPU\n")
    # (What has no figure in any row is no column.)
    assert cells(gpu, "1 000")[-2:] == ["1.50 missed", "≤ 1.4"]
    assert "B200" in gpu and "Not yet" not in gpu and "| 10 |" in cpu
    assert "Not yet measured on a GPU" in render.block(runs[1:])


def test_rows_and_columns_without_a_figure_are_left_out() -> None:
    made = tables.table(("K", "a", "b"), [("2", "–", "1"), ("3", "–", "–")])
    assert made == "| K | b |\n|---|---|\n| 2 | 1 |\n"
    assert tables.table(("K", "a"), [("2", "–"), ("3", "–")]) == ""


def test_processors_do_not_share_a_table() -> None:
    runs = [
        render.Run(
            f"{brand}.json",
            "2026-01-01",
            "abc",
            {"last_level_cache": 2**25, "tensor_bytes": 2**27, "cpu": {"brand_raw": brand}},
            (race(k, step=1.0, add=1.0),),
        )
        for brand, k in (("Abacus", 10), ("Bead", 30))
    ]
    first, second = render.block(runs).split("## On a CPU: Bead\n")
    assert "## On a CPU: Abacus\n" in first and "| 10 |" in first and "| 30 |" not in first
    assert "| 30 |" in second and "| 10 |" not in second


def test_render_replaces_only_the_generated_part() -> None:
    page = f"by hand\n{render.BEGIN}old\n{render.END}by hand too\n"
    filled = render.fill(page, [])
    assert filled.startswith(f"by hand\n{render.BEGIN}") and filled.endswith("by hand too\n")
    assert "old" not in filled and render.fill(filled, []) == filled
    with pytest.raises(ValueError, match="expected one generated part in the page, got 0"):
        render.fill("by hand\n", [])


def test_performance_page_is_up_to_date() -> None:
    page = render.PAGE.read_text()
    generated = page.partition(render.BEGIN)[2].partition(render.END)[0]
    named = re.findall(r"`(benchmarks/results/[^`]+)`:", generated)
    assert render.fill(page, [read(ROOT / name) for name in named]) == page
    assert (render.PAGE.parent / render.PICTURE).exists() == bool(named)


def test_files_of_another_schema_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "resources.json"
    path.write_text('{"kernels": []}')
    with pytest.raises(ValueError, match=r"expected .* to hold benchmarks with seconds"):
        read(path)


@pytest.mark.full
def test_benchmarks_run_and_their_results_render(tmp_path: Path) -> None:
    """Runs a few thousand entries for one round. It checks that results are written and rendered, not their speed."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pytest", "benchmarks", "--benchmark-only", "-q"),
            *("-k", "K10- and not 2threads and not rivals or K10-1thread or N1-K10-"),
            *("--tensor-bytes", "40000", "--rounds", "1"),
            *("--benchmark-json", str(tmp_path / "cpu.json")),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
        # The variables of this pytest process are removed: pytest-benchmark measures nothing inside an xdist worker.
        env={name: x for name, x in os.environ.items() if not name.startswith("PYTEST_")},
    )
    assert done.returncode == 0, done.stdout
    (ratios,) = re.findall(r"^step\[K10-1thread\] .*", done.stdout, flags=re.MULTILINE)
    assert " ns a row " in ratios and ratios.count(" × ") == 3 and "× softmax" in ratios
    (ratios,) = re.findall(r"^latency\[N1-K10-none\] .*", done.stdout, flags=re.MULTILINE)
    assert 0.1 < float(ratios.split()[1]) < 1000 and " µs a call " in ratios
    run = read(tmp_path / "cpu.json")
    assert not {"node", "release"} & run.machine.keys()
    for one in run.measurements:
        assert set(one.ratios) == {
            f"{next(iter(one.seconds))} / {name}" for name in list(one.seconds)[1:]
        }
        assert all(value > 0 and math.isfinite(value) for value in one.seconds.values())
    page = tmp_path / "performance.md"
    page.write_text(render.BEGIN + render.END)
    render.main([str(tmp_path / "cpu.json"), "--page", str(page)])
    text = page.read_text()
    assert cells(text, "10 | float16 | no ball") and cells(text, "10 | move, waterfill")
    assert (tmp_path / render.PICTURE).stat().st_size > 1000


# The soak.


def test_soak_without_violations(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert soak.main(["--rows", "3000", "--seed", "5", "--out", str(tmp_path)]) == 0
    assert "no guarantee broken" in capsys.readouterr().out
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["seed"] == 5 and summary["violation"] is None
    assert set(summary["rows_checked"].values()) == {3000}
    assert len(summary["rows_checked"]) == 6 * len(summary["instruction_sets"])


def test_soak_saves_violating_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Call.run

    def wrong(self: Call, instruction_set: str, threads: int) -> tuple[torch.Tensor, ...]:
        results = right(self, instruction_set, threads)
        results[0][0] = 1 / results[0].shape[1]
        return results

    with monkeypatch.context() as broken:
        broken.setattr(Call, "run", wrong)
        assert soak.main(["--rows", "50", "--seed", "5", "--out", str(tmp_path)]) == 1
        (kept,) = tmp_path.glob("violation-*.safetensors")
        assert soak.main(["--replay", str(kept)]) == 1
    # The saved call is correct without the injected fault.
    assert soak.main(["--replay", str(kept)]) == 0


@pytest.mark.parametrize(
    ("q", "margin", "refused", "names"),
    [
        ([0.55, 0.35, 0.1], 0.2, 0, set()),
        ([0.55, 0.35, 0.1], 0.2, 1, {"refused"}),
        ([0.549, 0.351, 0.1], 0.2, 0, {"margin"}),
        # p leads by 0.3 only, and shrink lowers the margin to that.
        ([0.6, 0.3, 0.1], 0.5, 0, set()),
        ([0.71, 0.19, 0.1], 0.2, 0, {"ball"}),
        ([0.6 + 2e-6, 0.3, 0.1], 0.2, 0, {"sum"}),
        ([0.6, 0.4 + 1e-7, -1e-7], 0.0, 0, {"negative"}),
        ([0.525, 0.375, 0.1], 0.0, 0, set()),
        ([0.5, 0.5, 0.0], 0.0, 0, {"tied"}),
        ([math.nan, 0.3, 0.1], 0.0, 0, {"not finite", "tied", "sum", "ball"}),
    ],
)
def test_soak_names_the_violated_guarantee(
    q: list[float], margin: float, refused: int, names: set[str]
) -> None:
    p = torch.tensor([[0.6, 0.3, 0.1]])
    epsilon = 0.5 if q[0] == 0.5 else 0.201
    promise = {"label": "label", "center": "p", "epsilon": epsilon, "norm": "l1"}
    tensors = {"p": p, "label": torch.tensor([0])}
    call = Call("step", (), tensors, promise | {"margin": margin, "shrink": True})
    found = soak.figures(call, (torch.tensor([q]), torch.tensor(refused)))
    beyond = {name for name, x in found.items() if not float(x) <= soak.ALLOWED.get(name, 0.0)}
    assert beyond == names and bool(soak.violations(found)) == bool(names)
