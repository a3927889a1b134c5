"""The page and what lies beside it."""

from __future__ import annotations

import io
import re
import secrets
from contextlib import ExitStack
from functools import cache
from unittest.mock import patch

import pytest
import torch
from audited import audited

import mipoison as mp
from mipoison.audit.report.deploy import DEFENSE, SERVE, deployment
from mipoison.audit.report.page import _called, compose
from mipoison.audit.report.words import headline, spread


@cache
def page(kind="images", *, leaking=True):
    one = audited(kind, leaking=leaking)
    chosen = one.content["recommended"]
    deployed = None
    if chosen is not None:
        system = one.measured[chosen]
        deployed = deployment(system.numbers["options"], system.file, one.evidence.classes, 4)
    with ExitStack() as stubs:
        if (kind, leaking) != ("images", True):
            # (Drawing takes most of the time: one page is enough.)
            stubs.enter_context(patch("mipoison.audit.report.page._pictures", lambda *given: None))
            stubs.enter_context(patch("mipoison.audit.report.page.png_of", lambda figure: b"drawn"))
        return compose(one.evidence, one.content, one.setting, one.measured, deployed)


def test_the_verdict_comes_first_and_the_page_needs_nothing_else():
    text = page()
    assert re.search(
        r"<h1[^>]*>From one answer an adversary reconstructs these images with \d+\s%", text
    )
    assert text.index("<h1") < text.index("<h2")
    assert not re.findall(r'(?:src|rel|@import)="?(?!data:)[^"]*http', text)
    assert text.count("data:image/png;base64,") == 2


def test_what_was_left_out_is_counted_and_named():
    text = page()
    assert "Left out: 23." in text and "photo-19.png" in text and "photo-20.png" not in text
    assert "and 3 more" in text
    # Names and classes are text, whatever is in them.
    assert "no &lt;vector&gt;" in text and "<hen>" not in text


def test_a_table_shows_every_attribute_beside_the_label_s():
    text = page("table")
    rows = re.findall(r"<tr><th>(color|age)</th>((?:<td>.*?</td>)+)", text)
    assert [name for name, _ in rows] == ["color", "age"]
    assert "2 values" in rows[0][1] and rows[1][1].count("R² ") == 4
    assert "data:image/png" in text


def test_where_nothing_leaks_the_page_says_so_and_claims_no_gain():
    text = page(leaking=False)
    assert "no better than from the label alone" in text and "No defense is recommended" in text
    assert "mp.load(" not in text


def test_sentences_say_what_was_measured():
    told = {"leaks": True, "reduction": 0.004}
    assert "0.4 %" in headline("table", told)
    spread_out = spread(
        {
            "leaks": True,
            "median": -0.1,
            "most_exposed_tenth": 0.5,
            "interval": [0.1, 0.2],
            "variant": "10-NN",
            "reduction": 0.1,
        },
        80,
    )
    assert "no better than from their label" in spread_out and "10-NN" in spread_out


@pytest.mark.parametrize("name", ["lpa-codebook", "rounding-1", "high_confidence-0.1"])
def test_the_lines_deploy_the_saved_defense(name, tmp_path, monkeypatch):
    system = audited().measured[name]
    made = deployment(system.numbers["options"], system.file, ("a", "b", "c", "d"), 4)
    run_lines(made, system.file, tmp_path, monkeypatch)
    scope = {
        "mp": mp,
        "outputs": audited().setting.defender.outputs,
        "inputs": audited().setting.defender.inputs,
    }
    exec(made.again, scope)
    assert scope["defense"](torch.tensor([[0.6, 0.2, 0.1, 0.1]])).shape == (1, 4)


def test_a_keyed_defense_asks_for_a_key_of_the_deployment(tmp_path, monkeypatch):
    p = torch.rand(60, 4).softmax(1)
    file = io.BytesIO()
    mp.LPA.fit(p, objective="direction", key=7).save(file)
    made = deployment({"objective": "direction"}, file.getvalue(), (), 4)
    assert made.keyed and "key_env" in made.serve
    monkeypatch.setenv("MIPOISON_KEY", secrets.token_hex(32))
    run_lines(made, file.getvalue(), tmp_path, monkeypatch)


def test_the_default_is_deployed_with_a_key_whatever_it_keeps(tmp_path, monkeypatch):
    generator = torch.Generator().manual_seed(100)
    x = torch.rand(160, 6, generator=generator)
    # (Confident rows: the cutoff is kept, whose answers depend on no key.)
    p = (200 * x[:, :4]).softmax(1)
    options = {"objective": "auto", "budget": 0.004}
    fitted, file = mp.LPA.fit(p, x, **options, key=7), io.BytesIO()
    fitted.save(file)
    assert fitted.objective.name == "cutoff"
    made = deployment(options, file.getvalue(), (), 4)
    assert made.keyed and "key_env" in made.serve
    monkeypatch.setenv("MIPOISON_KEY", secrets.token_hex(32))
    run_lines(made, file.getvalue(), tmp_path, monkeypatch)
    scope = {"mp": mp, "outputs": p, "inputs": x}
    exec(made.again, scope)
    again = scope["defense"]
    assert again.objective.name == fitted.objective.name and torch.equal(again(p), fitted(p))


def test_what_the_default_kept_is_named():
    one = {"family": "LPA auto", "budget": 0.07, "options": {}, "kept": "cutoff"}
    assert _called("lpa-auto-l1-0.07", one) == "LPA auto (kept cutoff, budget 0.07)"
    assert _called("lpa-auto-l1-0.07", one | {"kept": None}) == "LPA auto (budget 0.07)"


def run_lines(made, file, folder, monkeypatch):
    """Runs the lines of Python in a folder with the saved defense, and reads the settings of the proxy there."""
    import argparse

    from mipoison.serve.config.options import add_flags, read

    (folder / DEFENSE).write_bytes(file)
    (folder / SERVE).write_text(made.serve, encoding="utf-8")
    monkeypatch.chdir(folder)
    scope = {"model": torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Softmax(-1)).eval()}
    exec(made.python, scope)
    answers = scope["served"](torch.rand(5, 3))
    assert torch.allclose(answers.sum(1), torch.ones(5))
    parser = argparse.ArgumentParser()
    add_flags(parser)
    settings = read(folder / SERVE, parser.parse_args([]))
    assert settings.defense.file == folder / DEFENSE
    assert (settings.defense.key_env is not None) == made.keyed
