"""The settings, metrics and reasons of the guides and examples are those of the proxy."""

from __future__ import annotations

import argparse
import re
import textwrap
from pathlib import Path

import pytest

from mipoison.serve.config import options
from mipoison.serve.config.settings import Settings
from mipoison.serve.failures import STATUS
from mipoison.serve.proxy.metrics import Metrics

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "docs" / "guides"
OPERATE = (GUIDES / "operate.md").read_text()
POD = (ROOT / "examples" / "serve" / "sidecar.yaml").read_text()


def read(text: str, folder: Path) -> Settings:
    (folder / "serve.toml").write_text(text)
    return options.read(folder / "serve.toml", argparse.Namespace())


def test_the_settings_of_ten_minutes(tmp_path: Path) -> None:
    page = (GUIDES / "ten-minutes.md").read_text()
    (toml,) = re.findall(r"```toml\n(.*?)```", page, re.DOTALL)
    made = read(toml, tmp_path)
    assert made.upstream.url in page.replace(toml, "")
    for program in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        compile(program, "guide", "exec")


def test_the_settings_of_the_pod(tmp_path: Path) -> None:
    (block,) = re.findall(r"serve\.toml: \|\n((?:    .*\n|\n)+)", POD)
    made = read(textwrap.dedent(block), tmp_path)
    grace = re.search(r"terminationGracePeriodSeconds: (\d+)", POD)
    before = re.search(r'command: \[sleep, "(\d+)"\]', POD)
    assert grace and before and int(grace[1]) > made.listen.drain_s + int(before[1])
    assert f"containerPort: {made.listen.port}" in POD and f":{made.upstream.url[-4:]}" in POD
    assert made.upstream.url.startswith("http://127.0.0.1:")


def test_every_metric_that_is_named_exists() -> None:
    known = {
        name
        for family in Metrics().registry.collect()
        for name in (
            family.name,
            *(f"{family.name}_{part}" for part in ("total", "sum", "count")),
        )
    }
    named = set(re.findall(r"\bmipoison_[a-z0-9_]+", OPERATE))
    assert named <= known and len(named) > 10


@pytest.mark.parametrize("kind", ["reason", "status"])
def test_every_reason_that_alerts_name_exists(kind: str) -> None:
    patterns = re.findall(rf'{kind}=~"([^"]+)"', OPERATE)
    known = set(STATUS) if kind == "reason" else {str(status) for status in STATUS.values()}
    assert patterns
    for pattern in patterns:
        alternatives = re.sub(
            r"(\w*)\(([\w|]+)\)",
            lambda found: "|".join(found[1] + one for one in found[2].split("|")),
            pattern,
        )
        assert set(alternatives.split("|")) <= known
    ticked = {one for one in re.findall(r"`(\w+)`", OPERATE) if one.startswith("upstream_")}
    assert ticked <= set(STATUS)
