"""Every defense goes into a file and comes back, with nothing but its key missing; and what refuses to."""

from __future__ import annotations

import copy
import io
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from distributions import draw
from fitted import KEYED, KEYLESS, stored
from later import unless
from torch import Tensor, nn

import mipoison as mp
from mipoison.defenses import (
    Contract,
    Defense,
    LabelOnly,
    LaplaceNoise,
    ModelGuardS,
    ModelGuardW,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Rounding,
    Swap,
    TopK,
    loading,
    storage,
)
from mipoison.defenses.lpa import OBJECTIVES
from mipoison.defenses.lpa.direction import Direction
from mipoison.ops import unchecked

K = 10
Fitted = dict[str, Any]


def altered(file: io.BytesIO, change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> Any:
    """The file with other settings or tensors, and the digest of these."""
    content = storage.load(file)
    settings, tensors = dict(content.settings), dict(content.tensors)
    change(settings, tensors)
    other = io.BytesIO()
    storage.save(other, content.kind, settings, tensors)
    other.seek(0)
    return other


def test_the_table_holds_every_defense(fitted: Fitted) -> None:
    assert set(fitted) == {*KEYLESS, *KEYED}
    assert {type(defense) for defense in fitted.values()} == set(loading._KINDS.values())
    objectives = {type(one.objective) for one in fitted.values() if isinstance(one, mp.LPA)}
    assert objectives == set(OBJECTIVES.values())


@pytest.mark.parametrize("name", [*KEYLESS, *KEYED])
def test_every_defense_round_trips(fitted: Fitted, name: str, tmp_path: Path) -> None:
    defense, p = fitted[name], draw("plain", 80, K, seed=3).float()
    options = {"key": 1} if name in KEYED else {}
    path = tmp_path / "defense.safetensors"
    defense.save(path)
    for loaded in (
        mp.load(path, **options),
        mp.load(str(path), **options),
        type(defense).load(path, **options),
        mp.load(stored(defense), **options),
    ):
        assert type(loaded) is type(defense) and repr(loaded) == repr(defense)
        assert loaded.settings() == defense.settings()
        assert torch.equal(loaded(p), defense(p))
        assert not any(x.requires_grad for x in (*loaded.parameters(), *loaded.buffers()))
    # Saved again, the file holds the same.
    first, again = storage.load(path), storage.load(stored(loaded))
    assert first[:2] == again[:2] and first.tensors.keys() == again.tensors.keys()
    assert all(torch.equal(first.tensors[part], again.tensors[part]) for part in first.tensors)


@pytest.mark.parametrize("name", KEYED)
def test_a_keyed_defense_demands_its_key(fitted: Fitted, name: str) -> None:
    defense, p = fitted[name], draw("plain", 80, K, seed=3).float()
    for load in (mp.load, type(defense).load):
        with pytest.raises(ValueError, match=r"expected the key of this .*, got none; pass key="):
            load(stored(defense))
        with pytest.raises(ValueError, match="at least 16 bytes, got 0"):
            load(stored(defense), key=b"")
        with pytest.raises(TypeError, match="expected key to be an int, bytes"):
            load(stored(defense), key="a text")
    assert not torch.equal(mp.load(stored(defense), key=2)(p), defense(p))


@pytest.mark.parametrize("name", KEYLESS)
def test_a_keyless_defense_refuses_a_key(fitted: Fitted, name: str) -> None:
    for load in (mp.load, type(fitted[name]).load):
        with pytest.raises(ValueError, match=r"expected no key for .*, which has none, got one"):
            load(stored(fitted[name]), key=1)


def test_settings_that_are_not_the_default_come_back() -> None:
    p = draw("plain", 60, K).float()
    defenses = [
        Rounding(2, on_invalid="label"),
        TopK(4),
        ReverseSigmoid(beta=0.1 + 0.2, gamma=math.inf),
        Contract.fit(p, center="mean", epsilon=1 / 3, style="waterfill"),
        ModelGuardW(epsilon=0.3),
        ModelGuardS.fit(p, epsilon=1 / 3),
        LaplaceNoise(scale=1e-300, key=1),
        OneParameter(privacy_budget=1e9, key=1),
        Swap.fit(p, epsilon=1 / 7, style="waterfill", grid=0.3, key=1),
        Purifier.fit(p, epochs=1, latent=40, width=70, epsilon=0.3, key=1),
        mp.LFP.fit(p, rate=0.5, targets="runner_up", max_rate=0.5, audit=True, key=1),
    ]
    for defense in defenses:
        options = {} if defense._key is None else {"key": 1}
        loaded = mp.load(stored(defense), **options)
        assert loaded.settings() == defense.settings() and torch.equal(loaded(p), defense(p))
    # Every row is a candidate: its threshold is infinite.
    assert defenses[-1].threshold == loaded.threshold == math.inf


def test_loaded_defense_is_independent_of_its_file(fitted: Fitted, tmp_path: Path) -> None:
    p = draw("plain", 80, K, seed=3).float()
    for name in ("generator", "swap", "purifier", "lfp"):
        path = tmp_path / name
        fitted[name].save(path)
        served = mp.load(path, key=1)
        path.write_bytes(bytes(path.stat().st_size))
        assert torch.equal(served(p), fitted[name](p))
        path.write_bytes(b"")
        assert torch.equal(served(p), fitted[name](p))


def test_loading_does_not_depend_on_process_settings(fitted: Fitted) -> None:
    p = draw("plain", 80, K, seed=3).float()
    for name in ("generator", "purifier", "swap", "contract"):
        options = {"key": 1} if name in KEYED else {}
        file = stored(fitted[name])
        torch.set_default_dtype(torch.float64)
        try:
            with torch.inference_mode(), torch.device("meta"):
                loaded = mp.load(file, **options)
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(loaded(p), fitted[name](p))


def test_a_file_of_another_class_is_refused(fitted: Fitted) -> None:
    with pytest.raises(ValueError, match=r"expected a file saved by Rounding\.save, got TopK in"):
        Rounding.load(stored(fitted["top-k"]))
    with pytest.raises(ValueError, match=r"expected a file saved by LFP\.save, got LPA"):
        mp.LFP.load(stored(fitted["decoy"]), key=1)


@pytest.mark.parametrize("name", ["decoy", "generator", "lfp-margin", "swap", "rounding"])
def test_mismatched_content_is_refused(fitted: Fitted, name: str) -> None:
    options = {"key": 1} if name in KEYED else {}

    def load(change: Callable[[dict[str, Any], dict[str, Tensor]], None]) -> None:
        mp.load(altered(stored(fitted[name]), change), **options)

    with pytest.raises(ValueError, match=r"missing or unknown ones \(volume\): another version"):
        load(lambda settings, tensors: settings.update(volume=11))
    with pytest.raises(ValueError, match=r"missing or unknown ones \(on_invalid\)"):
        load(lambda settings, tensors: settings.pop("on_invalid"))
    with pytest.raises(ValueError, match=r"missing or unknown ones \(parts\)"):
        load(lambda settings, tensors: settings.pop("parts"))
    with pytest.raises(ValueError, match=r"missing or unknown ones \(engine\)"):
        load(lambda settings, tensors: settings["parts"].update(engine={}))
    with pytest.raises(ValueError, match="expected on_invalid to be one of"):
        load(lambda settings, tensors: settings.update(on_invalid="never"))
    with pytest.raises(ValueError, match=r"got missing or unknown ones \(odd\)"):
        load(lambda settings, tensors: tensors.update(odd=torch.zeros(1)))
    if storage.load(stored(fitted[name])).tensors:
        with pytest.raises(ValueError, match="expected"):
            load(lambda settings, tensors: tensors.clear())


@pytest.mark.parametrize("name", ["decoy", "equilibrium"])
def test_a_tensor_of_another_name_is_refused_at_loading(fitted: Fitted, name: str) -> None:
    def rename(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        old = next(part for part in tensors if part.endswith("weight0"))
        tensors[old.replace("weight0", "weighu0")] = tensors.pop(old)

    with pytest.raises(ValueError, match="expected"):
        mp.load(altered(stored(fitted[name]), rename), key=1)


@pytest.mark.parametrize("name", ["decoy", "generator", "equilibrium", "swap", "purifier"])
def test_numbers_that_no_save_writes_are_refused(fitted: Fitted, name: str) -> None:
    def halve(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        for part, x in tensors.items():
            tensors[part] = x.half() if x.is_floating_point() else x

    def spoil(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        next(x for x in tensors.values() if x.is_floating_point()).view(-1)[0] = float("nan")

    options = {"key": 1} if name in KEYED else {}

    def overflow(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        next(x for x in tensors.values() if x.is_floating_point()).view(-1)[0] = float("inf")

    for change, got in ((halve, "float16"), (spoil, "NaN"), (overflow, "infinite entries")):
        with pytest.raises(
            ValueError, match=f"expected finite float32, float64 or int64 numbers of .* got {got}"
        ):
            mp.load(altered(stored(fitted[name]), change), **options)


def test_an_unknown_setting_of_a_part_is_refused(fitted: Fitted) -> None:
    def louder(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        settings["parts"]["objective"]["volume"] = 11

    def unnamed(settings: dict[str, Any], tensors: dict[str, Tensor]) -> None:
        settings["parts"]["objective"]["name"] = "magic"

    for change, words in ((louder, "Decoy knows, got volume"), (unnamed, "a whole LPA in")):
        with pytest.raises(ValueError, match=words):
            mp.load(altered(stored(fitted["decoy"]), change), key=1)


# Subclasses of others.


class Shy(Defense):
    """It has nothing to declare."""

    name: ClassVar[str] = "shy"

    def answer(self, p: Tensor) -> Tensor:
        return p.new_full(p.shape, 1 / p.shape[1])


class Bold(Shy):
    """It takes what it does not declare."""

    def __init__(self, volume: int) -> None:
        super().__init__()
        self.volume = volume


class Loud(Bold):
    """It declares it."""

    saved: ClassVar[tuple[str, ...]] = ("volume",)


class Mine(Rounding):
    """It has another way, under the name of its base."""


class Elsewhere(Direction):
    """An objective that this package does not know."""


def test_a_subclass_of_another_package_loads_what_it_declares() -> None:
    assert Shy.load(stored(Shy(on_invalid="label"))).on_invalid == "label"
    assert Loud.load(stored(Loud(11))).volume == 11
    assert type(Mine.load(stored(Mine(3)))) is Mine
    with pytest.raises(TypeError, match=r"expected Bold to declare .* nothing about volume"):
        Bold(11).save(io.BytesIO())
    with pytest.raises(TypeError, match=r"expected the settings of .*Loud to be numbers"):
        Loud(object()).save(io.BytesIO())  # type: ignore[arg-type]
    for other in (Shy(), Mine(3)):
        with pytest.raises(ValueError, match="the load of its own class reads it"):
            mp.load(stored(other))
    with pytest.raises(ValueError, match=r"saved by Rounding\.save, got .*Mine"):
        Rounding.load(stored(Mine(3)))


def test_objective_of_another_package_is_not_saved() -> None:
    with pytest.raises(TypeError, match=r"expected an objective out of .*, got Elsewhere"):
        mp.LPA(Elsewhere(), key=1).save(io.BytesIO())


# Other ways to carry a defense about.


@pytest.mark.parametrize("name", [*KEYLESS, *KEYED])
def test_copies_pickles_and_states(fitted: Fitted, name: str) -> None:
    defense, p = fitted[name], draw("plain", 80, K, seed=3).float()
    for twin in (copy.deepcopy(defense), copy.copy(defense)):
        assert torch.equal(twin(p), defense(p))
    twin = copy.deepcopy(defense)
    assert twin.load_state_dict(defense.state_dict()) and torch.equal(twin(p), defense(p))
    if name in KEYLESS:
        assert torch.equal(pickle.loads(pickle.dumps(defense))(p), defense(p))
        return
    with pytest.raises(TypeError, match=r"defense\.save\(file\) and read it with mipoison\.load"):
        pickle.dumps(defense)


@pytest.mark.parametrize(
    ("rate", "said"),
    [(0.9, r"share in \[0, 0\.1\], got 0\.9"), (math.nan, "share in"), (0.05, "rate=0.1")],
)
def test_a_state_cannot_flip_more_than_the_ceiling(rate: float, said: str) -> None:
    defense = mp.LFP(rate=0.1, max_rate=0.1, key=1)
    with pytest.raises(ValueError, match=said):
        defense.set_extra_state(torch.tensor([math.nan, rate], dtype=torch.float64))
    assert defense.share == 0.1


def test_state_dict_restores_fitted_numbers() -> None:
    p, x = draw("plain", 400, K).float(), torch.rand(400, 4)
    sharper = p.square() / p.square().sum(1, keepdim=True)
    first, second = (
        mp.LFP.fit(rows, rate=0.2, targets="runner_up", key=1) for rows in (p, sharper)
    )
    assert first.threshold != second.threshold
    second.load_state_dict(first.state_dict())
    assert (second.threshold, second.share) == (first.threshold, first.share)
    with pytest.raises(
        ValueError, match="expected the state of an LFP with rows='margin', got one without"
    ):
        second.load_state_dict(mp.LFP(rate=0.2, key=1).state_dict())
    spent, given = (
        mp.LPA.fit(p, x, objective="direction", key=1, **o) for o in ({"budget": 0.1}, {})
    )
    given.load_state_dict(spent.state_dict())
    assert given.epsilon == spent.epsilon != 0.2


def halved(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x.half() for name, x in state.items()}


def halved_and_back(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x.half().to(x.dtype) for name, x in state.items()}


def turned(state: dict[str, Any]) -> dict[str, Any]:
    """The same vectors in another order: those of another label stand where a label's should."""
    return {name: x.flip(0) if x.ndim == 2 else x for name, x in state.items()}


def spoiled(number: float) -> Callable[[dict[str, Any]], dict[str, Any]]:
    def spoil(state: dict[str, Any]) -> dict[str, Any]:
        changed = {name: x.clone() for name, x in state.items()}
        next(x for x in changed.values() if x.is_floating_point()).view(-1)[0] = number
        return changed

    return spoil


def shortened(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x[:-1] if x.ndim else x for name, x in state.items()}


def emptied(state: dict[str, Any]) -> dict[str, Any]:
    """No vectors, and one tensor without numbers, which cannot be compared with them."""
    last = [name for name, x in state.items() if not x.is_floating_point() or x.ndim == 2][-1]
    empty = {name: torch.full_like(x, 0.7) for name, x in state.items()}
    return empty | {last: state[last].to("meta")}


def made_sparse(state: dict[str, Any]) -> dict[str, Any]:
    return {name: x.to_sparse() if x.ndim == 2 else x for name, x in state.items()}


@pytest.mark.parametrize("assign", [False, True])
@pytest.mark.parametrize(
    ("change", "names"),
    [
        (halved, ("swap", "contract", "decoy", "equilibrium", "generator", "purifier", "lfp")),
        (halved_and_back, ("swap", "contract", "decoy", "equilibrium", "generator")),
        (turned, ("swap", "contract")),
        (spoiled(math.nan), ("swap", "contract", "purifier", "alignment")),
        (spoiled(math.inf), ("swap", "contract", "purifier", "alignment")),
        (shortened, ("swap", "contract", "decoy", "lfp")),
        (emptied, ("swap", "contract")),
        (made_sparse, ("swap", "contract", "decoy", "purifier")),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_changed_state_is_refused(
    fitted: Fitted, change: Any, names: tuple[str, ...], assign: bool
) -> None:
    """Vectors that are no probability vectors, or of another label, would lead rows out of their balls."""
    p = draw("plain", 80, K, seed=3).float()
    for name in names:
        twin = copy.deepcopy(fitted[name])
        with pytest.raises(ValueError, match="expected"):
            twin.load_state_dict(change(twin.state_dict()), assign=assign)
        q = twin(p)
        assert float((q - p).abs().sum(1).max()) <= twin.ball[0] * 1.00001 or name == "lfp"


def test_a_state_of_other_classes_is_refused(fitted: Fitted) -> None:
    twin = copy.deepcopy(fitted["decoy"])
    state = twin.state_dict()
    name = next(name for name in state if name.endswith(".k"))
    with pytest.raises(ValueError, match="expected the state of a surrogate of K=10 classes, got"):
        twin.load_state_dict(state | {name: torch.tensor(7)})


@pytest.mark.parametrize("number", [3e38, -3e38])
@pytest.mark.parametrize("name", ["generator", "equilibrium"])
def test_rows_are_moved_where_networks_overflow(fitted: Fitted, name: str, number: float) -> None:
    """Numbers that no fit gives, and no check of a state knows."""
    p, overflown = draw("plain", 80, K, seed=3).float(), 0
    for part in ("mean", "bias0", "weight1", "weight2", "bias2"):
        defense = copy.deepcopy(fitted[name])
        state = defense.state_dict()
        network = "network." if name == "generator" else "scorer."
        broken = {
            n: torch.full_like(x, number) for n, x in state.items() if n.endswith(network + part)
        }
        assert len(broken) == 1
        defense.load_state_dict(state | broken)
        q, objective = defense(p), defense.objective
        served = objective.network if name == "generator" else objective.scorer
        lost = ~unchecked.recover(p, served).isfinite().all(1)
        overflown += int(lost.sum())
        moved = (q - p).abs().sum(1)
        assert bool((moved[lost] > 1e-4).all()) and float(moved.max()) < defense.epsilon + 1e-5
    assert overflown > 0


@pytest.mark.parametrize("rows", ["margin", "leak"])
def test_rows_are_flipped_where_networks_overflow(rows: str) -> None:
    p = draw("plain", 80, K, seed=3).float()
    x = torch.rand(80, 4, generator=torch.Generator().manual_seed(0))
    defense = mp.LFP.fit(p, x, rate=0.5, rows=rows, key=1)
    state = defense.state_dict()
    state |= {n: torch.full_like(x, 3e38) for n, x in state.items() if n.endswith("weight1")}
    defense.load_state_dict(state)
    assert not bool(unchecked.recover(p, defense.surrogate).isfinite().all())
    flipped = (defense(p) - p).abs().sum(1) > 0
    assert 0.3 < float(flipped.double().mean()) <= 1


def test_a_state_moves_through_meta(fitted: Fitted) -> None:
    p = draw("plain", 80, K, seed=3).float()
    for name in ("swap", "contract", "equilibrium", "purifier"):
        defense = fitted[name]
        twin = copy.deepcopy(defense).to("meta")
        with pytest.raises(ValueError, match="expected outputs on meta, where the tensors of"):
            twin(p)
        twin.load_state_dict(defense.state_dict(), assign=True)
        assert torch.equal(twin(p), defense(p))


def test_a_wrong_state_is_refused_by_a_meta_module(fitted: Fitted) -> None:
    for name in ("swap", "decoy", "equilibrium"):
        twin = copy.deepcopy(fitted[name]).to("meta")
        state = fitted[name].state_dict()
        vectors = next(n for n in state if n.endswith("bank.vectors"))
        for wrong in (state[vectors].flip(0), state[vectors] * 3):
            with pytest.raises(ValueError, match="expected the bank"):
                twin.load_state_dict(state | {vectors: wrong}, assign=True)


def test_a_good_state_follows_one_that_overflows(fitted: Fitted) -> None:
    p = draw("plain", 80, K, seed=3).float()
    defense = copy.deepcopy(fitted["equilibrium"])
    state, q = defense.state_dict(), defense(p)
    state = {name: x.clone() for name, x in state.items()}
    broken = {n: x * 1e25 for n, x in state.items() if n.endswith("guide.weight2")}
    assert len(broken) == 1
    defense.load_state_dict(state | broken)
    assert float((defense(p) - p).abs().sum(1).max()) <= defense.epsilon + 2e-7
    defense.load_state_dict(state)
    assert torch.equal(defense(p), q)


def test_a_negative_penalty_weight_is_loaded() -> None:
    p = draw("plain", 60, 5, seed=1).float()
    x = torch.rand(60, 4, generator=torch.Generator().manual_seed(0))
    defense = mp.LPA.fit(p, x, objective="equilibrium", epsilon=0.3, budget=0.29, key=1)
    assert defense.objective.penalty_weight < 0
    defense.load_state_dict(defense.state_dict())


# Casts.

CASTS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "half": lambda module: module.half(),
    "double": lambda module: module.double(),
    "bfloat16": lambda module: module.bfloat16(),
    "to": lambda module: module.to(torch.float16),
    "to-like": lambda module: module.to(torch.zeros(1, dtype=torch.float64)),
    "type": lambda module: module.type(torch.float16),
    "apply": lambda module: module.apply(lambda part: part.half()),
    "quantize": lambda module: torch.ao.quantization.quantize_dynamic(module, {nn.Linear}),
}


@pytest.mark.filterwarnings("ignore:torch.ao.quantization is deprecated")
@pytest.mark.parametrize("cast", unless(("half", "apply", "quantize"), CASTS))
@pytest.mark.parametrize("name", [*KEYLESS, *KEYED])
def test_cast_of_the_module_changes_no_answer(fitted: Fitted, name: str, cast: str) -> None:
    p = draw("plain", 60, K, seed=3).float()
    twin = copy.deepcopy(fitted[name])
    before = {key: value.dtype for key, value in twin.state_dict().items()}
    expected = fitted[name](p)
    served = CASTS[cast](mp.Defended(nn.Identity(), twin))
    assert {key: value.dtype for key, value in twin.state_dict().items()} == before
    assert torch.equal(served(p), expected)
    assert torch.equal(CASTS[cast](twin)(p), expected)


def test_a_defense_without_settings_is_a_small_file() -> None:
    assert len(stored(LabelOnly()).read()) < 300
