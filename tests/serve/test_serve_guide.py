"""The guide of the proxy names every setting, reason and metric as they are, and its example is right."""

from __future__ import annotations

import argparse
import re
from dataclasses import MISSING
from pathlib import Path

from mipoison.serve.config import options
from mipoison.serve.failures import STATUS
from mipoison.serve.proxy.metrics import Metrics

GUIDE = (Path(__file__).parents[2] / "docs" / "guides" / "serve.md").read_text()


def test_every_reason_stands_with_its_status() -> None:
    rows = re.findall(r"^\| (\d{3}) \| `(\w+)` \|", GUIDE, re.MULTILINE)
    assert {reason: int(status) for status, reason in rows} == dict(STATUS)


def test_every_setting_stands_with_its_flag_and_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| `(--[\w-]+)` \| (.+?) \|", GUIDE, re.MULTILINE)
    assert [(name, flag) for name, flag, _ in rows] == [
        (item.name, options.flag_of(item)) for _, item in options.all_settings()
    ]
    for (name, _, told), (_, item) in zip(rows, options.all_settings(), strict=True):
        default = item.default
        if default is MISSING:
            assert told == "required", name
        elif default is None or default == ():
            assert told == "none", name
        elif isinstance(default, float):
            assert float(told) == default, name
        elif isinstance(default, tuple):
            assert told == ", ".join(f"`{one}`" for one in default), name
        else:
            assert told == (str(default).lower() if isinstance(default, bool) else str(default)), (
                name
            )


def test_every_metric_is_named() -> None:
    for family in Metrics().registry.collect():
        suffix = "_total" if family.type == "counter" else ""
        assert f"`{family.name}{suffix}`" in GUIDE


def test_the_example_is_right(tmp_path: Path) -> None:
    (example,) = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)
    (tmp_path / "serve.toml").write_text(example)
    made = options.read(tmp_path / "serve.toml", argparse.Namespace())
    assert (
        made.defense.file == tmp_path / "lpa.safetensors" and made.defense.key_env == "MIPOISON_KEY"
    )
