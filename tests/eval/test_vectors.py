"""`mipoison certify`: a saved defense on a user's own vectors."""

import json

import numpy as np
import pytest
import torch
from distributions import draw

import mipoison as mp
from mipoison.defenses import LabelOnly, Rounding, Swap
from mipoison.eval import cli

OUTPUTS = draw("plain", 300, 5).float()
INPUTS = torch.rand(300, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.savez("mine.npz", outputs=OUTPUTS.numpy(), inputs=INPUTS.numpy())
    LabelOnly().save("label.safetensors")
    return tmp_path


def printed(capsys, *given):
    cli.main(["certify", *given])
    return capsys.readouterr().out


def test_it_prints_what_certify_says(here, capsys):
    made = mp.certify(LabelOnly(), OUTPUTS, INPUTS)
    given = ("npz:mine.npz", "--defense", "label.safetensors")
    assert printed(capsys, *given) == f"{made}\n"
    assert json.loads(printed(capsys, *given, "--json")) == json.loads(made.to_json())
    other = mp.certify(LabelOnly(), OUTPUTS, INPUTS, confidence=0.8)
    assert printed(capsys, *given, "--confidence", "0.8") == f"{other}\n"


def test_bytes_groups_and_secrets_are_taken_from_the_file(here, capsys):
    images, who = (
        (255 * INPUTS).to(torch.uint8),
        np.array(["ann", "bob", "eve"])[np.arange(300) % 3],
    )
    groups = np.arange(300) // 2
    np.savez("all.npz", outputs=OUTPUTS, inputs=images, groups=groups, who=who)
    made = mp.certify(LabelOnly(), OUTPUTS, images / 255, groups=groups, secrets={"who": who})
    assert made.rows == 150
    assert printed(capsys, "npz:all.npz", "--defense", "label.safetensors") == f"{made}\n"


def test_a_keyed_defense_takes_its_key_from_a_file(here, capsys):
    # The text that serve and defend take, too.
    key = mp.Key.generate(here / "key")
    defense = Swap.fit(OUTPUTS, epsilon=2.0, key=key)
    defense.save("swap.safetensors")
    made = mp.certify(defense, OUTPUTS, INPUTS)
    given = ("npz:mine.npz", "--defense", "swap.safetensors", "--key-file", "key")
    assert printed(capsys, *given) == f"{made}\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["mine.npz", "--defense", "label.safetensors"], "--vectors: expected npz:FILE"),
        (["npz:gone.npz", "--defense", "label.safetensors"], "expected a .npz file, found none"),
        (["npz:other.npz", "--defense", "label.safetensors"], "expected arrays outputs and inputs"),
        (["npz:mine.npz", "--defense", "gone"], "gone: No such file"),
        (["npz:mine.npz", "--defense", "mine.npz"], "expected a file saved by a mipoison defense"),
        (
            ["npz:wide.npz", "--defense", "label.safetensors"],
            "expected inputs in [0, 1] or uint8, got",
        ),
        (["npz:bits.npz", "--defense", "label.safetensors"], "got none above 1, and errors would"),
        (
            ["npz:texts.npz", "--defense", "label.safetensors"],
            "texts.npz: expected outputs to hold",
        ),
        (["npz:ages.npz", "--defense", "label.safetensors"], "integers or texts, without missing"),
        (
            ["npz:mine.npz", "--defense", "keyed.safetensors"],
            "got none; say with --key-file where it is",
        ),
        (
            ["npz:mine.npz", "--defense", "label.safetensors", "--key-file", "gone"],
            "path of a file that holds a key, got 'gone'",
        ),
        (
            ["npz:mine.npz", "--defense", "label.safetensors", "--confidence", "1"],
            "expected confidence < 1",
        ),
    ],
)
def test_mistakes_are_one_line(given, said, here, one_line):
    np.savez("other.npz", x=OUTPUTS)
    np.savez("wide.npz", outputs=OUTPUTS, inputs=2 * INPUTS)
    np.savez("bits.npz", outputs=OUTPUTS, inputs=(INPUTS > 0.5).to(torch.uint8))
    np.savez("texts.npz", outputs=np.full((300, 3), "a"), inputs=INPUTS)
    np.savez("ages.npz", outputs=OUTPUTS, inputs=INPUTS, age=np.linspace(20, 60, 300))
    Swap.fit(OUTPUTS, key=1).save("keyed.safetensors")
    assert said in one_line(["certify", *given])


def test_rounding_of_a_continuous_row_is_certified_by_its_few_answers(here, capsys):
    Rounding(1).save("rounding.safetensors")
    assert "different answers" in printed(
        capsys, "npz:mine.npz", "--defense", "rounding.safetensors"
    )
