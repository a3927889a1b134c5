"""Arguments are honoured or refused, and looked at before anything is trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from distributions import draw
from fitted import key_of
from operands import goal_of, packed
from torch import nn

import mipoison as mp
from mipoison.adamw import AdamW
from mipoison.defenses import (
    Contract,
    GaussianNoise,
    LabelOnly,
    LaplaceNoise,
    OneParameter,
    Purifier,
    Rounding,
    Swap,
)
from mipoison.defenses.lpa import OBJECTIVES
from mipoison.defenses.lpa.alignment import Alignment
from mipoison.defenses.lpa.ascent import Ascent
from mipoison.defenses.lpa.decoy import Decoy
from mipoison.defenses.lpa.equilibrium import Equilibrium
from mipoison.defenses.lpa.generator import Generator
from mipoison.defenses.lpa.penalized import Penalized

K, N = 10, 60
P, X = draw("plain", N, K, seed=2).float(), torch.rand(N, 3)
Call = Callable[..., Any]
FITS: dict[str, Call] = {
    **{
        objective: lambda p=P, x=X, objective=objective, **o: mp.LPA.fit(
            p, x, objective=objective, **{**key_of(objective), **o}
        )
        for objective in OBJECTIVES
    },
    **{
        f"lfp {rows} {targets}": lambda p=P, x=X, rows=rows, targets=targets, **o: mp.LFP.fit(
            p, x, rows=rows, targets=targets, **{"key": 1, **o}
        )
        for rows in ("random", "margin", "leak")
        for targets in ("random", "surrogate")
    },
    "contract": lambda p=P, x=X, **o: Contract.fit(p, **o),
    "swap": lambda p=P, x=X, **o: Swap.fit(p, **{"key": 1, **o}),
    "purifier": lambda p=P, x=X, **o: Purifier.fit(p, **{"key": 1, **o}),
    "surrogate": lambda p=P, x=X, **o: mp.Surrogate.fit(p, x, **o),
}
KEYED = [name for name in FITS if name not in ("contract", "surrogate", "codebook", "cutoff")]


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """No network may be trained."""

    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something was trained")

    monkeypatch.setattr(AdamW, "apply", refuse)


@pytest.mark.parametrize("name", [name for name in FITS if name not in ("contract", "swap")])
def test_training_is_detected(untrained: None, name: str) -> None:
    if name in ("direction", "codebook", "cutoff", "lfp random random", "lfp margin random"):
        FITS[name]()
        return
    with pytest.raises(AssertionError, match="something was trained"):
        FITS[name]()


# Keys.


@pytest.mark.parametrize(
    ("key", "error", "words"),
    [
        (b"", ValueError, r"at least 16 bytes, got 0: .* secrets\.token_bytes\(16\)"),
        (b"a", ValueError, "at least 16 bytes, got 1"),
        (bytes(15), ValueError, "at least 16 bytes, got 15"),
        (bytearray(15), ValueError, "at least 16 bytes, got 15"),
        (memoryview(b"abc"), ValueError, "at least 16 bytes, got 3"),
        ("sixteen letters.", TypeError, r"got str; .*text\.encode\(\)"),
        (True, TypeError, "got bool"),
        (np.True_, TypeError, "got bool"),
        (1.0, TypeError, "got float"),
        ([1], TypeError, "got list"),
        (torch.tensor(1), TypeError, "got Tensor"),
    ],
)
def test_a_bad_key_is_found_before_anything_is_trained(
    untrained: None, key: Any, error: type[Exception], words: str
) -> None:
    calls: list[Callable[[], Any]] = [
        lambda: mp.row_bits(P, key=key),
        lambda: mp.flip(P, rate=0.5, key=key),
        lambda: mp.lpa(P, key=key),
        lambda: mp.lfp(P, key=key),
        lambda: LaplaceNoise(key=key),
        lambda: GaussianNoise(key=key),
        lambda: OneParameter(key=key),
        *(lambda name=name: FITS[name](key=key) for name in KEYED),
    ]
    for call in calls:
        with pytest.raises(error, match=words) as caught:
            call()
        assert "expected key" in str(caught.value)


def test_keys_of_several_kinds() -> None:
    secret = bytes(range(16))
    expected = mp.row_bits(P, key=secret)
    for same in (bytearray(secret), memoryview(secret), memoryview(secret + secret)[:16]):
        assert torch.equal(mp.row_bits(P, key=same), expected)
    for number in (np.int64(7), np.uint8(7)):
        assert torch.equal(mp.row_bits(P, key=number), mp.row_bits(P, key=7))
    assert not torch.equal(mp.row_bits(P, key=-7), mp.row_bits(P, key=7))


# Every other argument of every fit.

BAD: list[tuple[str, Any, tuple[str, ...]]] = [
    ("on_invalid", "drop", tuple(name for name in FITS if name != "surrogate")),
    ("norm", "l3", tuple(OBJECTIVES)),
    ("epsilon", 2.5, (*OBJECTIVES, "contract", "swap", "purifier")),
    ("budget", -0.1, tuple(OBJECTIVES)),
    ("error", "cubed", ("equilibrium", "generator")),
    ("groups", [1, 2], ("equilibrium", "generator")),
    ("seed", 0.5, tuple(name for name in FITS if name not in ("contract", "swap"))),
    ("progress", "loud", (*OBJECTIVES, "surrogate")),
    ("rate", 1.5, tuple(name for name in FITS if name.startswith("lfp"))),
    ("max_rate", 0.001, tuple(name for name in FITS if name.startswith("lfp"))),
    ("audit", "no", tuple(name for name in FITS if name.startswith("lfp"))),
    ("style", "curly", (*(n for n in FITS if n.startswith("lfp")), "contract", "swap")),
    ("center", "mode", ("contract",)),
    ("grid", -1.0, ("swap",)),
    ("latent", 0, ("purifier",)),
    ("width", 0, ("purifier", "surrogate")),
    ("epochs", 0, ("purifier", "surrogate")),
    ("divergence", -1.0, ("purifier",)),
    ("members", 0, ("surrogate",)),
    ("components", 0, ("surrogate",)),
    ("volume", 11, tuple(FITS)),
]


@pytest.mark.parametrize(("argument", "value", "names"), BAD, ids=[name for name, *_ in BAD])
def test_a_bad_argument_is_found_before_anything_is_trained(
    untrained: None, argument: str, value: Any, names: tuple[str, ...]
) -> None:
    words = "unexpected keyword argument" if argument == "volume" else "expected"
    for name in names:
        with pytest.raises((TypeError, ValueError), match=words) as caught:
            FITS[name](**{argument: value})
        assert argument in str(caught.value)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_needs_rows(untrained: None, name: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected (outputs with a row|at least 2 outputs)"
    ) as caught:
        FITS[name](P[:0], X[:0])
    assert "; pass" in str(caught.value)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_on_bad_rows_names_them(untrained: None, name: str) -> None:
    bad = P.clone()
    bad[3, 2] = torch.nan
    with pytest.raises(ValueError, match=r"expected outputs to be probability vectors .* row 3"):
        FITS[name](bad)


@pytest.mark.parametrize("name", FITS)
def test_a_fit_on_one_row_or_one_class_serves_or_says_why(name: str) -> None:
    one = P[P.argmax(1) == int(P.argmax(1).mode().values)]
    fitted = FITS[name](one, X[: len(one)])
    if name != "surrogate":
        assert torch.equal(fitted(P).argmax(1), P.argmax(1)) or name.startswith("lfp")
    try:
        fitted = FITS[name](P[:1], X[:1])
    except ValueError as error:
        assert "expected" in str(error) and "; pass more" in str(error)
    else:
        assert torch.isfinite(fitted(P)).all()


def test_surrogate_refuses_another_number_of_classes() -> None:
    surrogate = mp.Surrogate.fit(P, X, epochs=1)
    few = torch.softmax(P[:, :5], 1)
    for call in (
        lambda: surrogate(few),
        lambda: surrogate.reconstruct(few),
        lambda: surrogate.gradient(few, torch.zeros(N, 3)),
        lambda: mp.lpa(few, surrogate),
        lambda: mp.lfp(few, surrogate),
    ):
        with pytest.raises(
            ValueError, match="expected outputs with K=10 classes, as fitted, got K=5"
        ):
            call()
    assert torch.equal(surrogate(P.numpy()), surrogate(P))


# Settings that nothing would come of.


def test_a_class_method_is_not_called_on_an_object(fitted: dict[str, Any]) -> None:
    calls: list[Callable[[], Any]] = [
        *(lambda defense=defense: defense.load("file", key=1) for defense in fitted.values()),
        *(
            lambda defense=defense: defense.fit(P, X)
            for defense in fitted.values()
            if hasattr(defense, "fit")
        ),
        lambda: mp.LFP(rate=0.5, key=1).fit(P, X),
        lambda: mp.Surrogate.fit(P, X, epochs=1).fit(P, X),
    ]
    assert len(calls) > len(fitted) + 10
    for call in calls:
        with pytest.raises(
            TypeError, match=r"expected .* to be called on the class, got a call on an"
        ):
            call()
    assert mp.LFP(key=1).fit.__doc__ == mp.LFP.fit.__doc__


@pytest.mark.parametrize(
    "objective", [n for n, kind in OBJECTIVES.items() if not issubclass(kind, Penalized)]
)
def test_settings_of_other_objectives_are_refused(untrained: None, objective: str) -> None:
    refused: list[dict[str, Any]] = [{"error": "root"}]
    if objective != "codebook":
        refused.append({"certified": 0.9})
    if objective not in ("codebook", "cutoff"):
        refused.append({"groups": torch.arange(N)})
    for given in refused:
        with pytest.raises(ValueError, match=f"expected {next(iter(given))} with objective"):
            mp.LPA.fit(P, X, objective=objective, **key_of(objective), **given)


def test_missing_inputs_are_refused(untrained: None) -> None:
    assert mp.LPA.fit(P, objective="direction", key=1).objective.name == "direction"
    for objective in set(OBJECTIVES) - {"direction"}:
        with pytest.raises(
            ValueError, match=f"expected inputs with objective '{objective}', got none"
        ):
            mp.LPA.fit(P, objective=objective, **key_of(objective))


def test_lfp_refuses_what_its_choices_do_not_use() -> None:
    surrogate = mp.Surrogate.fit(P, X, epochs=1)
    means = torch.zeros(K, 3)
    for name, given in {
        "share": {"share": 0.5},
        "threshold": {"threshold": 0.1},
        "surrogate": {"surrogate": surrogate},
        "means": {"rows": "margin", "threshold": 0.1, "means": means},
    }.items():
        with pytest.raises(ValueError, match=f"expected no {name} with rows=.*, got one"):
            mp.LFP(key=1, **given)  # type: ignore[arg-type]
    leak: dict[str, Any] = {"rows": "leak", "threshold": 0.1, "surrogate": surrogate}
    assert mp.LFP(means=means, key=1, **leak).means is means
    for wrong in (means[:3], "means", means.numpy()):
        with pytest.raises(ValueError, match=r"expected means to be a tensor \(10, 3\)"):
            mp.LFP(means=wrong, key=1, **leak)


def test_example_without_gives_none_is_refused() -> None:
    for gives in ("probabilities", "logits"):
        with pytest.raises(ValueError, match="expected an example with gives=None alone"):
            mp.Defended(nn.Identity(), LabelOnly(), gives=gives, example=P)


@pytest.mark.parametrize("wrong", ["decoy", None, 3, P, mp.LPA, Decoy, nn.Identity()])
def test_objects_of_another_kind_are_refused_by_name(wrong: Any) -> None:
    surrogate = mp.Surrogate.fit(P, X, epochs=1)
    bank = Swap.fit(P, key=1).bank
    calls: dict[str, list[Callable[[], Any]]] = {
        "objective": [lambda: mp.LPA(wrong, key=1)],
        "surrogate": [
            lambda: Ascent(wrong),
            lambda: Decoy(wrong, bank),
            lambda: Alignment(wrong, bank, wrong),
        ],
        "bank": [lambda: Swap(wrong, key=1), lambda: Decoy(surrogate, wrong)],
        "reformer": [lambda: Purifier(wrong, key=1)],
        "defense": [lambda: mp.Defended(nn.Identity(), wrong)],
        "targets": [lambda: Alignment(surrogate, bank, wrong)],
        "candidates": [
            lambda: Equilibrium(wrong, wrong, penalty_weight=0.0, error="root", sharpness=1.0)
        ],
        "network": [
            lambda: Generator(
                bank, wrong, P, penalty_weight=0.0, budget=0.1, error="root", key_cells=wrong
            )
        ],
    }
    if wrong is not None:
        calls["surrogate"] += [
            lambda: mp.lpa(P, wrong),
            lambda: mp.lfp(P, wrong),
            lambda: mp.LFP(targets="surrogate", surrogate=wrong, key=1),
        ]
    for name, each in calls.items():
        for call in each:
            with pytest.raises(TypeError, match=f"expected {name} to be a mipoison [A-Z].*, got"):
                call()


def test_model_must_be_callable() -> None:
    with pytest.raises(
        TypeError, match=r"expected model to be a torch\.nn\.Module or a function, got"
    ):
        mp.Defended("model", LabelOnly())  # type: ignore[arg-type]
    assert torch.equal(mp.Defended(lambda x: x, Rounding(1))(P), Rounding(1)(P))


def test_validate_is_a_flag() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1]])
    calls: tuple[Callable[[], object], ...] = (
        lambda: mp.project(p, validate="no"),
        lambda: mp.step(p, p, alpha=0.1, validate="no"),
        lambda: mp.move(p, p, epsilon=0.1, validate="no"),
        lambda: mp.flip(p, rate=0.5, key=1, validate="no"),
        lambda: mp.quantize(p, torch.eye(3)[:, None], validate="no"),
        lambda: mp.recover(p, packed(3), validate="no"),
        lambda: mp.perturb(p, goal_of(1), packed(3), steps=1, alpha=0.1, validate="no"),
        lambda: Rounding(1)(p, validate="no"),
    )
    for call in calls:
        with pytest.raises(TypeError, match="expected validate to be True or False, got 'no'"):
            call()
