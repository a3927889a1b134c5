"""Configurations are complete, checked, and survive JSON."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from mipoison.eval.adversaries.settings import AdversarySettings
from mipoison.eval.configuration import Configuration
from mipoison.eval.presets import DEMO, PRESETS
from mipoison.eval.run.store import Store
from mipoison.eval.scalars import derive_seed


@pytest.mark.parametrize("preset", PRESETS)
def test_configuration_survives_json(preset):
    text = json.dumps(PRESETS[preset].to_json())
    assert Configuration.from_json(json.loads(text)) == PRESETS[preset]


def test_decoders_survive_json():
    adversary = AdversarySettings(decoders=("raw", "top-10"))
    text = json.dumps(replace(DEMO, adversary=adversary).to_json())
    assert Configuration.from_json(json.loads(text)).adversary == adversary


def test_demo_is_the_published_study():
    assert DEMO.seeds == (0, 1, 2) and DEMO.temperatures == (1.0, 3.0)
    assert len(DEMO.cells) == 6


def test_none_and_label_only_always_take_part():
    chosen = DEMO.with_methods(("rounding-1",))
    assert [method.name for method in chosen.methods] == ["none", "label-only", "rounding-1"]
    assert chosen.checked_methods == ("none",)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": ()}, "seeds: expected at least one"),
        ({"seeds": (1, 1)}, "all different"),
        ({"temperatures": (0.0,)}, "temperatures: expected numbers in"),
        ({"temperatures": (1.0, float("inf"))}, "temperatures: expected numbers in"),
        ({"temperatures": (float("nan"),)}, "temperatures: expected numbers in"),
        ({"temperatures": (3.0, 3.0000001)}, "temperatures: expected different ones"),
        ({"target_epochs": 0}, "target_epochs: expected at least 1, got 0"),
        ({"victims_shown": -3}, "victims_shown: expected at least 1, got -3"),
        ({"dataset": "cifar"}, "dataset: expected one of"),
        ({"target": "wish"}, "target: expected one of"),
        ({"target": "mlp+nls:0.1"}, r"nls takes a number in \[-1, 0\)"),
        ({"auxiliary": "all"}, "auxiliary: expected one of same, other"),
        ({"worst_case_methods": ("wish",)}, "worst_case_methods: expected names out of"),
        ({"methods": DEMO.methods[1:]}, "methods: expected 'none' among them"),
        ({"methods": (*DEMO.methods, DEMO.methods[0])}, "methods: expected different names"),
        ({"checked_methods": ("lpa-decoy-0.2",)}, "checked_methods: expected 'none'"),
        ({"checked_methods": ("none", "wish")}, "checked_methods"),
    ],
)
def test_wrong_parts_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DEMO, **change)


def test_unknown_names_say_what_is_allowed():
    with pytest.raises(ValueError, match=r"lpa-decoy-0\.2.*got \['wish'\]"):
        DEMO.with_methods(("wish",))
    with pytest.raises(ValueError, match="configuration: expected keys"):
        Configuration.from_json(DEMO.to_json() | {"wish": 1})


@pytest.mark.parametrize(
    "of", [np.int64, np.int32, np.uint8, torch.tensor], ids=lambda of: of.__name__
)
def test_numbers_of_any_library_are_the_same_experiment(of, tmp_path):
    plain = {"seeds": (0, 2), "target_epochs": 5, "victims_shown": 3}
    adversary = replace(DEMO.adversary, epochs=7, neighbours=(5, 9), held_out=20)
    wanted = replace(DEMO, **plain, adversary=adversary)
    given = replace(
        DEMO,
        seeds=[of(0), of(2)],
        temperatures=[np.float64(1), 3],
        target_epochs=of(5),
        victims_shown=of(3),
        methods=list(DEMO.methods),
        adversary=replace(DEMO.adversary, epochs=of(7), neighbours=[of(5), of(9)], held_out=of(20)),
    )
    assert given == wanted and json.dumps(given.to_json()) == json.dumps(wanted.to_json())
    store = Store(tmp_path)
    assert store.stem(given, of(2), 3) == store.stem(wanted, 2, 3.0)
    assert derive_seed(of(2), "target") == derive_seed(2, "target")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": (1.0,)}, "seeds: expected a whole number, got 1.0"),
        ({"seeds": (True,)}, "seeds: expected a whole number, got True"),
        ({"seeds": 3}, r"seeds: expected several in a tuple, got 3; write \(3,\)"),
        ({"seeds": "12"}, "seeds: expected several in a tuple"),
        ({"temperatures": ("3",)}, "temperatures: expected a number, got '3'"),
        ({"target_epochs": 2.5}, "target_epochs: expected a whole number"),
        ({"checked_methods": "none"}, "checked_methods: expected several in a tuple"),
    ],
)
def test_other_types_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(DEMO, **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 2.0}, "epochs: expected a whole number, got 2.0"),
        ({"width": "3"}, "width: expected a whole number"),
        ({"neighbours": 5}, "neighbours: expected several in a tuple"),
        ({"losses": "l1"}, "losses: expected several in a tuple"),
        ({"learning_rate": "fast"}, "learning_rate: expected a number, got 'fast'"),
        ({"deep_floor": True}, "deep_floor: expected a number, got True"),
    ],
)
def test_other_types_of_adversaries_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        AdversarySettings(**change)
