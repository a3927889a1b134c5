"""What the proxy's rows go through: checks of each request, the defense on the wire, drift, and the last check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from serving import asked, json_of, settings_of
from torch import Tensor

import mipoison as mp
from mipoison.defenses import GaussianNoise, Rounding
from mipoison.defenses.base import Defense
from mipoison.defenses.lpa.direction import Direction
from mipoison.serve.config.settings import Guard
from mipoison.serve.defending import Defend, Prepare
from mipoison.serve.failures import Refused
from mipoison.serve.loading import Loaded, load, meter_of

K = 4


def rows(n: int, scale: float = 1.0, seed: int = 3) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.softmax(scale * torch.randn(n, K, generator=generator, dtype=torch.float64), -1)


@pytest.fixture(scope="module")
def fitted() -> mp.LPA:
    p = rows(600)
    return mp.LPA.fit(p.float(), torch.rand(600, 3), objective="decoy", budget=0.1, key=7)


def prepare(defense: Defense, **options: Any) -> Prepare:
    return Prepare(
        defense, **{"gives": "probabilities", "temperature": 1.0, "most": 100, **options}
    )


def test_rows_are_checked_for_each_request(fitted: mp.LPA) -> None:
    good = rows(3).numpy()
    assert prepare(fitted)(good) is good
    for bad, reason in (
        (rows(101).numpy(), "too_many_rows"),
        (np.full((1, K + 1), 1 / (K + 1)), "upstream_classes"),
        (good * 0.99, "upstream_not_probabilities"),
        (good - 0.5, "upstream_not_probabilities"),
    ):
        with pytest.raises(Refused) as caught:
            prepare(fitted)(bad)
        assert caught.value.reason == reason


def test_invalid_rows_get_their_label_where_the_defense_says_so() -> None:
    safe = Rounding(1, on_invalid="label")
    bad = [[5.0, 2.0, 1.0], [0.2, 0.2, 0.6]]
    got = asked(settings_of(), json_of({"predictions": bad}), answer=None, defense=safe)
    assert got.json() == {"predictions": [[1.0, 0.0, 0.0], [0.2, 0.2, 0.6]]} and safe.failures == 1


def test_16_bits_have_their_own_tolerance() -> None:
    """Nearly no vector of 16 bits has a sum within float64's tolerance."""
    for kind, dtype in (("FP16", torch.float16), ("BF16", torch.bfloat16)):
        p = rows(50).to(dtype).double()
        assert float((p.sum(1) - 1).abs().max()) > 1e-4

        def document(values: Tensor, datatype: str) -> dict[str, Any]:
            data = values.flatten().tolist()
            output = {"name": "p", "shape": list(values.shape), "data": data}
            return {"outputs": [{**output, "datatype": datatype}]}

        def ask(values: Tensor, datatype: str) -> Any:
            defended = json_of(document(values, datatype))
            return asked(settings_of("v2"), defended, answer=None, defense=Rounding(9))

        got = torch.tensor(ask(p, kind).json()["outputs"][0]["data"], dtype=torch.float64)
        assert torch.allclose(got.reshape(50, K), p / p.sum(1, keepdim=True), atol=2e-4, rtol=0)
        assert ask(p, "FP32").json()["reason"] == "upstream_not_probabilities"
        assert ask(p * 1.02, kind).json()["reason"] == "upstream_not_probabilities"
        negative = torch.tensor([[-0.001, 0.501, 0.25, 0.25]])
        assert ask(negative, kind).json()["reason"] == "upstream_not_probabilities"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"top_k": 5}, "expected vectors of 5 classes or more"),
        ({"decimals": 1}, "expected vectors that 1 decimals move"),
        ({"gives": "logits", "temperature": 1e-4}, "expected logits"),
    ],
)
def test_settings_that_do_not_fit_the_vectors_are_told(options: Any, said: str) -> None:
    """Where the defense knows no K, they cannot be checked before."""
    document = json_of(
        {"predictions": [[1e308, -1e308, 0.0] if "gives" in options else [0.7, 0.2, 0.1]]}
    )
    defense = mp.LPA(Direction(), epsilon=0.05, key=3)
    got = asked(settings_of(**options), document, answer=None, defense=defense)
    assert got.status_code == 502 and said in got.json()["error"]
    assert "upstream_" in got.json()["reason"]


@pytest.mark.parametrize("protocol", ["mlflow", "v2"])
def test_top_k_and_decimals_go_over_the_wire(protocol: str, fitted: mp.LPA) -> None:
    p = rows(5)
    document: Any = {"predictions": p.tolist()}
    if protocol == "v2":
        data = p.flatten().tolist()
        document = {"outputs": [{"name": "p", "datatype": "FP64", "shape": [5, K], "data": data}]}
    settings = settings_of(protocol, decimals=3, top_k=2)
    got = asked(settings, json_of(document), answer=None, defense=fitted).json()
    if protocol == "v2":
        values, classes, rest = (part["data"] for part in got["outputs"])
        values, classes = np.reshape(values, (5, 2)), np.reshape(classes, (5, 2))
    else:
        parts = got["predictions"]
        values, classes, rest = (
            np.array([one[name] for one in parts]) for name in ("values", "classes", "rest")
        )
    assert classes[:, 0].tolist() == p.argmax(1).tolist()
    assert np.abs(values.sum(1) + rest - 1).max() < 1e-12
    assert all(len(repr(float(x))) <= 5 for x in [*values.flatten(), *rest])


@pytest.mark.parametrize("top_k", [None, 3])
@pytest.mark.parametrize("on_drift", ["continue", "label", "refuse"])
def test_drift(on_drift: str, top_k: int | None, fitted: mp.LPA) -> None:
    guard = Guard(file=Path("none"), on_drift=on_drift, drift_window=200)
    seen: list[int] = []
    meter = meter_of(guard, fitted, [lambda readings: seen.append(readings.drifting)])
    defend = Defend(meter, decimals=4, top_k=top_k)
    defend(rows(400, seed=5).numpy(), None)
    assert seen == []
    other = rows(400, scale=30.0).numpy()
    # (The batch that tells is answered as before.)
    defend(other, None)
    if on_drift == "refuse":
        with pytest.raises(Refused) as caught:
            defend(other, None)
        assert caught.value.reason == "drift"
    else:
        answered = defend(other, None)
        labels = answered.values.argmax(1)
        if answered.classes is not None:
            labels = answered.classes[:, 0]
        assert (labels == other.argmax(1)).all()
        assert bool((answered.values.max(1) == 1).all()) is (on_drift == "label")
        if on_drift == "label" and answered.classes is not None:
            # The order of the others tells nothing.
            assert all(list(row[1:]) == sorted(row[1:]) for row in answered.classes)
    assert seen == [1]


class Wrong(Rounding):
    """Answers that are none."""

    def __init__(self, change: Any) -> None:
        super().__init__(2)
        self.change = change

    def forward(self, outputs: Any, **options: Any) -> Any:
        return self.change(np.array(outputs, dtype=np.float64))


@pytest.mark.parametrize(
    "change",
    [
        lambda q: q[:-1],
        lambda q: q[:, :-1],
        lambda q: q * np.nan,
        lambda q: q - 0.5,
        lambda q: q * 0.9,
    ],
)
def test_what_is_no_answer_is_not_served(change: Any) -> None:
    defend = Defend(Wrong(change), decimals=None, top_k=None)
    with pytest.raises(RuntimeError, match="expected answers to 3 rows of K=4"):
        defend(rows(3).numpy(), None)
    got = asked(settings_of(), json_of({"predictions": rows(3).tolist()}), answer=defend)
    assert (got.status_code, got.json()["reason"]) == (500, "internal")


def saved(defense: Defense, folder: Path) -> Path:
    file = folder / "defense"
    defense.save(file)
    return file


def test_settings_that_do_not_fit_the_defense_are_refused(
    tmp_path: Path, fitted: mp.LPA, monkeypatch: Any
) -> None:
    monkeypatch.setenv("A_KEY", "00112233445566778899aabbccddeeff")
    made = settings_of(file=saved(fitted, tmp_path), key_env="A_KEY")
    found = load(made)
    assert (
        isinstance(found, Loaded)
        and found.defense.classes == K
        and len(found.fingerprint or "") == 16
    )
    for changes, said in (
        ({"labels": ("a", "b")}, r"\[answers\] labels: expected the 4 classes"),
        ({"top_k": 5}, r"\[answers\]: expected top_k of at most K=4"),
        ({"decimals": 1}, r"\[answers\]: expected decimals"),
    ):
        with pytest.raises(ValueError, match=said):
            load(replace(made, answers=replace(made.answers, **changes)))  # type: ignore[arg-type]


def test_accounts_get_answers_of_their_own() -> None:
    settings = settings_of(identity_header="X-Account")
    defense = GaussianNoise(key=3)
    upstream = json_of({"predictions": rows(40).tolist()})
    ann, bob, again = (
        asked(settings, upstream, answer=None, defense=defense, headers={"x-account": name}).content
        for name in ("ann", "bob", "ann")
    )
    assert ann == again != bob


@pytest.mark.parametrize("decimals", [4, None])
def test_rounding_to_decimals_is_no_move(decimals: int | None) -> None:
    seen: list[np.ndarray] = []
    for defense in (Rounding(6), GaussianNoise(key=7)):
        Defend(defense, decimals=decimals, top_k=None, moved=seen.append)(rows(50).numpy(), None)
    still, noisy = seen
    assert noisy.shape == (50,) and (noisy > 1e-3).all()
    # (Without decimals, what the defense itself rounds is a move.)
    assert (still == 0).all() if decimals else (still > 0).all()


def test_a_file_that_changes_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rounding.safetensors"
    Rounding(2).save(file)
    settings = settings_of(file=file)
    assert load(settings).digest
    read = mp.load

    def replaced(*given: Any, **named: Any) -> Defense:
        found: Defense = read(*given, **named)
        Rounding(1).save(file)
        return found

    monkeypatch.setattr(mp, "load", replaced)
    with pytest.raises(ValueError, match="stays as it is while it is read"):
        load(settings)
