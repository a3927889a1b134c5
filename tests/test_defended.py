"""The wrapper: what the model gives, failing closed, and being a module like any other."""

from __future__ import annotations

import copy
import functools
import io
from typing import Any

import pytest
import torch
from later import later, unless
from torch import Tensor, nn
from worlds import world

import mipoison as mp
from mipoison.defenses import (
    Contract,
    HighConfidence,
    LabelOnly,
    LaplaceNoise,
    OneParameter,
    Purifier,
    ReverseSigmoid,
    Rounding,
    Swap,
    Temperature,
    TopK,
)
from mipoison.reference import label_of

K = 5


class Classifier(nn.Module):
    """Logits of a linear layer, or their softmax; dropout as real classifiers have it."""

    def __init__(self, *, softmax: bool, dropout: float = 0.0) -> None:
        super().__init__()
        self.linear = nn.Linear(8, K)
        self.dropout = nn.Dropout(dropout)
        self.softmax = softmax
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            self.linear.weight.copy_(torch.randn(K, 8, generator=generator))
            self.linear.bias.zero_()

    def forward(self, x: Tensor, *, scale: float = 1.0) -> Tensor:
        logits = scale * self.linear(self.dropout(x))
        return torch.softmax(logits, -1) if self.softmax else logits


@pytest.fixture
def x() -> Tensor:
    return torch.randn(70, 8, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="module")
def lpa() -> mp.LPA:
    return mp.LPA.fit(*world(150, K, 8), objective="decoy", key=1)


def test_probabilities_are_defended(lpa: mp.LPA, x: Tensor) -> None:
    model = Classifier(softmax=True)
    q = mp.Defended(model, lpa)(x)
    assert torch.equal(q, lpa(model(x))) and not q.requires_grad
    assert torch.equal(label_of(q), label_of(model(x)))
    assert ((q - model(x)).abs().sum(1) > 0).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_logits_are_softened_and_defended(lpa: mp.LPA, x: Tensor, temperature: float) -> None:
    model = Classifier(softmax=False)
    served = mp.Defended(model, lpa, gives="logits", temperature=temperature)
    assert torch.equal(served(x), lpa(torch.softmax(model(x) / temperature, -1)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1e-4, 0.01, 3.0, 100.0, 1e4])
def test_labels_of_16_bit_logits_survive_every_temperature(
    dtype: torch.dtype, temperature: float
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = (4 * torch.randn(2000, K, generator=generator)).to(dtype)
    logits = torch.cat([logits, torch.tensor([[700, 650] + [0] * (K - 2)], dtype=dtype)])
    logits[3, 4] = -torch.inf
    label = label_of(logits)
    for defense in (LaplaceNoise(key=1), LabelOnly(), Rounding(2)):
        served = mp.Defended(nn.Identity(), defense, gives="logits", temperature=temperature)
        q = served(logits)
        assert q.dtype == dtype and torch.equal(label_of(q), label)
    with pytest.raises(ValueError, match="NaN or Inf"):
        served(torch.where(torch.eye(K, dtype=torch.bool), torch.nan, logits[:K]))


def test_model_arguments_are_passed_on(x: Tensor) -> None:
    model = Classifier(softmax=True)
    served = mp.Defended(model, Rounding(2))
    assert torch.equal(served(x, scale=0.1), Rounding(2)(model(x, scale=0.1)))
    assert not torch.equal(served(x, scale=0.1), served(x))


# Failing closed.


def test_logits_passed_as_probabilities_are_refused(lpa: mp.LPA, x: Tensor) -> None:
    for defense in (lpa, mp.LFP(rate=0.5), LabelOnly(), Rounding(), LaplaceNoise()):
        with pytest.raises(ValueError, match=r"got rows 0, .* torch\.softmax\(logits, -1\)"):
            mp.Defended(Classifier(softmax=False), defense)(x)


def test_logits_passed_as_probabilities_get_the_safe_answer(x: Tensor) -> None:
    model = Classifier(softmax=False)
    served = mp.Defended(model, mp.LPA.fit(*world(60, K, 2), key=1, on_invalid="label"))
    assert torch.equal(served(x), torch.nn.functional.one_hot(label_of(model(x)), K).float())
    assert served.defense.failures == 70


def test_an_answer_of_another_kind_is_refused(lpa: mp.LPA, x: Tensor) -> None:
    with pytest.raises(TypeError, match="got float"):
        mp.Defended(lambda x: 0.5, lpa)(x)
    # (Two vectors of a pair would pass for two rows.)
    for several in ([0.5, 0.5], (x, x), (x[0], x[1])):
        for gives in ("logits", "probabilities"):
            with pytest.raises(TypeError, match=r"with one tensor or array .*, got a .*\.logits"):
                mp.Defended(lambda x, several=several: several, lpa, gives=gives)(x)
    with pytest.raises(ValueError, match="K=5 classes, as fitted, got K=8"):
        mp.Defended(nn.Softmax(-1), lpa)(x)


@pytest.mark.parametrize("wrong", [lambda q: q, nn.Softmax(-1), None, mp.LPA, "LPA"])
def test_defended_requires_a_defense(wrong: Any) -> None:
    with pytest.raises(
        TypeError, match=r"expected defense to be a mipoison Defense, got .*mp\.LPA"
    ):
        mp.Defended(Classifier(softmax=True), wrong)


def test_wrong_settings_are_refused() -> None:
    model = Classifier(softmax=False)
    with pytest.raises(ValueError, match="expected gives to be one of"):
        mp.Defended(model, LabelOnly(), gives="scores")
    for temperature in (0.0, -1.0, float("nan"), float("inf"), 1e8, 1e-45):
        with pytest.raises(ValueError, match="expected temperature in"):
            mp.Defended(model, LabelOnly(), gives="logits", temperature=temperature)
    with pytest.raises(ValueError, match="a temperature acts on logits"):
        mp.Defended(model, LabelOnly(), temperature=2.0)


# Found out, once.


@pytest.mark.parametrize("softmax", [True, False])
def test_gives_is_determined_once(softmax: bool, x: Tensor) -> None:
    model = Classifier(softmax=softmax, dropout=0.5).train()
    served = mp.Defended(model, Rounding(2), gives=None, example=x[:4])
    told = "probabilities" if softmax else "logits"
    assert served.gives == told
    assert torch.equal(served(x), mp.Defended(model, Rounding(2), gives=told)(x))


def test_ambiguous_example_is_refused(x: Tensor) -> None:
    mixed = torch.tensor([[0.5, 0.5], [2.0, -1.0]])
    for example in (mixed, mixed[:0], mixed[1:] * torch.nan):
        with pytest.raises(ValueError, match="expected an example whose answers are all"):
            mp.Defended(nn.Identity(), LabelOnly(), gives=None, example=example)
    with pytest.raises(ValueError, match="expected an example with gives=None"):
        mp.Defended(nn.Identity(), LabelOnly(), gives=None)
    # One that was found to give probabilities is never taken to give logits later.
    served = mp.Defended(nn.Identity(), LabelOnly(), gives=None, example=mixed[:1])
    with pytest.raises(ValueError, match="got row 0"):
        served(mixed[1:])


# Without validation, and in graphs.


WHOLE = {
    "label-only": lambda: LabelOnly(),
    "rounding": lambda: Rounding(1),
    "top-k": lambda: TopK(2),
    "temperature": lambda: Temperature(),
    "reverse-sigmoid": lambda: ReverseSigmoid(),
    "high-confidence": lambda: HighConfidence(),
    "contract": lambda: Contract.fit(world(60, K)[0]),
    "swap": lambda: Swap.fit(world(60, K)[0], key=1),
    "laplace": lambda: LaplaceNoise(key=1),
    "one-parameter": lambda: OneParameter(key=1),
    "purifier": lambda: Purifier.fit(world(60, K)[0], epochs=1, key=1),
    "direction": lambda: mp.LPA.fit(*world(60, K, 2), objective="direction", key=1),
    "lfp": lambda: mp.LFP(rate=0.5, key=1),
    "lfp-margin": lambda: mp.LFP.fit(world(60, K)[0], rate=0.5, targets="runner_up", key=1),
}
KEYLESS = tuple(WHOLE)[:7]


def spoilt(x: Tensor) -> Tensor:
    """Logits of the classifier with one row that is not finite."""
    return x.index_fill(0, torch.tensor([3]), torch.nan)


@pytest.mark.parametrize("name", WHOLE)
def test_without_validation_invalid_rows_get_the_safe_answer(name: str, x: Tensor) -> None:
    model, defense = Classifier(softmax=False), WHOLE[name]()
    served = mp.Defended(model, defense, gives="logits", validate=False)
    q = served(spoilt(x))
    good = torch.arange(len(x)) != 3
    assert torch.equal(q[3], torch.full((K,), 1 / K))
    checked = mp.Defended(model, defense, gives="logits")
    assert torch.equal(q[good], checked(x)[good]) and served.failures == 0
    # Logits told as probabilities: their label at most.
    told = mp.Defended(model, defense, validate=False)(x)
    assert torch.equal(told, torch.nn.functional.one_hot(label_of(model(x)), K).float())


def test_failures_are_counted_with_validation(x: Tensor) -> None:
    served = mp.Defended(Classifier(softmax=False), Rounding(on_invalid="label"), gives="logits")
    served(spoilt(x))
    assert served.failures == 1


@pytest.mark.parametrize(
    "name", unless(("rounding", "contract", "laplace", "direction", "lfp-margin"), WHOLE)
)
def test_it_compiles_whole(name: str, x: Tensor) -> None:
    torch._dynamo.reset()
    served = mp.Defended(Classifier(softmax=False), WHOLE[name](), gives="logits", validate=False)
    # (The model's own bits are the compiler's affair.)
    compiled = torch.compile(served, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(spoilt(x)), served(spoilt(x)))
    assert torch.equal(compiled(x[:5]), served(x[:5]))


@pytest.mark.parametrize("name", unless(("rounding", "contract"), KEYLESS))
def test_it_exports_without_a_key(name: str, x: Tensor) -> None:
    served = mp.Defended(Classifier(softmax=False), WHOLE[name](), gives="logits", validate=False)
    program = torch.export.export(served, (x,)).module()
    assert torch.equal(program(spoilt(x)), served(spoilt(x)))


@pytest.mark.parametrize("name", sorted(set(WHOLE) - set(KEYLESS)))
def test_a_key_is_not_exported(name: str, x: Tensor) -> None:
    served = mp.Defended(Classifier(softmax=False), WHOLE[name](), gives="logits", validate=False)
    with pytest.raises(RuntimeError, match=r"expected a defense without a key under torch\.export"):
        torch.export.export(served, (x,))


# A module like any other.


def test_the_model_is_put_into_eval_mode(lpa: mp.LPA, x: Tensor) -> None:
    model = Classifier(softmax=True, dropout=0.5).train()
    assert not torch.equal(model(x), model(x))
    served = mp.Defended(model, lpa)
    assert not any(module.training for module in served.modules())
    assert torch.equal(served(x), served(x))


def test_model_stays_in_eval_mode(x: Tensor) -> None:
    """A second answer to one query would be a second draw to average over."""
    served = mp.Defended(Classifier(softmax=True, dropout=0.5), Rounding(2))
    nn.Sequential(served).train()
    assert torch.equal(served(x), served(x))


class Service:
    """A classifier that is no module."""

    def __init__(self, net: nn.Module) -> None:
        self.net = net

    def __call__(self, x: Tensor) -> Tensor:
        return self.net(x)  # type: ignore[no-any-return]

    @property
    def network(self) -> nn.Module:
        return self.net

    def answers(self, x: Tensor) -> Tensor:
        return self._answered(x)

    def _answered(self, x: Tensor) -> Tensor:
        return self.network(x)  # type: ignore[no-any-return]


class Slotted:
    """Holds its model in a list in a dictionary."""

    __slots__ = ("net", "parts")

    def __init__(self, net: nn.Module) -> None:
        self.parts = {"nets": [net]}

    def answers(self, x: Tensor) -> Tensor:
        return self.parts["nets"][0](x)  # type: ignore[no-any-return]


def with_a_default(model: nn.Module) -> Any:
    def answers(x: Tensor, *, net: nn.Module = model) -> Tensor:
        return net(x)  # type: ignore[no-any-return]

    return answers


FUNCTIONS: dict[str, Any] = {
    "method": lambda model: model.forward,
    "closure": lambda model: lambda x: model(x),
    "partial": lambda model: functools.partial(model, scale=1.0),
    "partial-argument": lambda model: functools.partial(lambda net, x: net(x), model),
    "decorated": lambda model: torch.no_grad()(lambda x: model(x)),
    "object": Service,
    "method-of-object": lambda model: Service(model).answers,
    "attribute": lambda model: (lambda s: lambda x: s.net(x))(Service(model)),
    "function-of-functions": lambda model: (lambda s: lambda x: s(x))(Service(model).answers),
    "callable-in-closure": lambda model: (lambda s: lambda x: s(x))(Service(model)),
    "slots": lambda model: Slotted(model).answers,
    "default": with_a_default,
}


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_modules_of_a_function_are_put_into_eval_mode(kind: str, lpa: mp.LPA, x: Tensor) -> None:
    model = Classifier(softmax=True, dropout=0.5).train()
    served = mp.Defended(FUNCTIONS[kind](model), lpa)
    assert not model.training and not set(map(id, model.modules())) & set(map(id, served.modules()))
    assert torch.equal(served(x), served(x))
    model.dropout.train()
    with pytest.raises(RuntimeError, match=r"got Dropout in training mode, .*call \.eval\(\)"):
        served(x)
    served.eval()
    assert torch.equal(served(x), lpa(model(x)))


def test_a_model_that_returns_to_training_is_not_served(lpa: mp.LPA, x: Tensor) -> None:
    model = Classifier(softmax=True, dropout=0.5)
    served = mp.Defended(model, lpa, validate=False)
    for ask in (served, torch.compile(served, backend="eager")):
        expected = ask(x)
        model.train()
        with pytest.raises(RuntimeError, match="expected the model in eval mode, got Classifier"):
            ask(x)
        model.eval()
        assert torch.equal(ask(x), expected)


def test_an_exported_model_is_served_in_the_mode_of_its_export(lpa: mp.LPA, x: Tensor) -> None:
    """Alone and as a part of another; one that was exported in training mode answers otherwise each time."""
    model = Classifier(softmax=True, dropout=0.5)
    evaluated = torch.export.export(model.eval(), (x,)).module()
    for whole in (evaluated, nn.Sequential(nn.Dropout(0.5), evaluated)):
        served = mp.Defended(whole, lpa)
        served.train()
        assert torch.equal(served(x), mp.Defended(model, lpa)(x))
    trained = torch.export.export(model.train(), (x,)).module()
    for whole in (trained, nn.Sequential(trained)):
        with pytest.raises(
            ValueError, match=r"expected model to be exported in eval mode, got aten\.dropout"
        ):
            mp.Defended(whole, lpa)


@pytest.mark.filterwarnings(
    "ignore:.torch.jit:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
def test_a_traced_model_is_served_in_the_mode_of_its_tracing(lpa: mp.LPA, x: Tensor) -> None:
    model = Classifier(softmax=True, dropout=0.5)
    expected = mp.Defended(model, lpa)(x)
    for kept in (torch.jit.trace(model.eval(), x), torch.jit.freeze(torch.jit.trace(model, x))):
        served = mp.Defended(nn.Sequential(kept), lpa)
        assert torch.equal(served(x), expected)
    trained = torch.jit.trace(model.train(), x, check_trace=False)
    file = io.BytesIO()
    torch.jit.save(trained, file)
    file.seek(0)
    for whole in (trained, nn.Sequential(trained), torch.jit.load(file), lambda x: trained(x)):
        with pytest.raises(ValueError, match="exported in eval mode, got aten::dropout in train"):
            mp.Defended(whole, lpa)


@pytest.mark.parametrize("kind", [mp.LPA, mp.LFP])
def test_device_moves_all_tensors(kind: Any, x: Tensor) -> None:
    served = mp.Defended(Classifier(softmax=True), kind.fit(*world(60, K, 2), key=1))
    tensors = dict(served.named_buffers()) | dict(served.named_parameters())
    assert any(name.startswith("defense.") for name in tensors)
    # No tensor hides where `.to` does not find it.
    for module in served.modules():
        assert not any(isinstance(value, Tensor) for value in vars(module).values())
    served.to("meta")
    assert all(value.is_meta for value in (*served.buffers(), *served.parameters()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "objective", ["decoy", "ascent", "direction", "alignment", "alignment-full"]
)
def test_lpa_survives_a_cast_of_the_model(objective: str, dtype: torch.dtype, x: Tensor) -> None:
    defense = mp.LPA.fit(*world(60, K, 2), objective=objective, key=1)
    served = mp.Defended(Classifier(softmax=True), defense).to(dtype)
    p, q = served.model(x.to(dtype)), served(x.to(dtype))
    assert q.dtype == dtype and torch.equal(label_of(q), label_of(p))
    moved = (q.double() - p.double()).abs().sum(1)
    assert float(moved.max()) < 0.25 and float(moved.median()) > 0.19


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_lfp_survives_a_cast_of_the_model(dtype: torch.dtype, x: Tensor) -> None:
    defense = mp.LFP.fit(*world(60, K, 2), rate=1.0, rows="random", key=1)
    served = mp.Defended(Classifier(softmax=True), defense).to(dtype)
    p, q = served.model(x.to(dtype)), served(x.to(dtype))
    assert q.dtype == dtype and (label_of(q) != label_of(p)).all()


def test_the_key_is_not_in_its_state(lpa: mp.LPA) -> None:
    served = mp.Defended(Classifier(softmax=True), lpa)
    state = served.state_dict()
    assert "model.linear.weight" in state and "defense.objective.bank.vectors" in state
    assert not any("key" in name for name in state)
    words = set(lpa._key.words)
    assert not any(words & set(value.flatten().tolist()) for value in state.values())
    assert not any(str(word) in repr(served) for word in words)
    assert "gives='probabilities', temperature=1" in repr(served)


def test_a_state_dict_and_a_deep_copy_carry_the_defense(lpa: mp.LPA, x: Tensor) -> None:
    served = mp.Defended(Classifier(softmax=True), lpa)
    expected = served(x)
    assert torch.equal(copy.deepcopy(served)(x), expected)
    other = mp.Defended(
        Classifier(softmax=True),
        mp.LPA.fit(*world(150, K, 8, seed=7), key=1, objective="equilibrium"),
    )
    assert not torch.equal(other(x), expected)
    twin = copy.deepcopy(served)
    nn.init.zeros_(twin.model.linear.weight)
    twin.load_state_dict(served.state_dict())
    assert torch.equal(twin(x), expected)


@pytest.mark.parametrize(
    ("objective", "budgets"),
    [
        ("decoy", (None, None)),
        ("generator", (0.1, 0.08)),
        *later(("equilibrium", (0.1, 0.08))),
    ],
)
def test_state_dict_restores_the_labels_of_the_bank(
    objective: str, budgets: tuple[float | None, float | None], x: Tensor
) -> None:
    """What was computed from a bank's vectors belongs to them, wherever they come from."""
    fit = {"objective": objective, "epsilon": 0.8, "key": 1}
    served, other = (
        mp.Defended(
            Classifier(softmax=True),
            mp.LPA.fit(*world(150, K, 8, seed=seed), budget=budget, **fit),
        )
        for seed, budget in zip((3, 7), budgets, strict=True)
    )
    assert not torch.equal(other(x), served(x))
    other.load_state_dict(served.state_dict())
    assert torch.equal(other(x), served(x))
