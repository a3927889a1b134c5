"""What is read from what models return, and what is refused because it could be something else."""

from __future__ import annotations

import io
from collections import OrderedDict, namedtuple
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from later import later
from torch import Tensor, nn
from worlds import world

import mipoison as mp
from mipoison.defenses import Rounding
from mipoison.defenses.reading import answers_of
from mipoison.defenses.wire import TopK

K = 5
X = torch.randn(7, K, generator=torch.Generator().manual_seed(0))
P = torch.softmax(X, -1)
HIDDEN = tuple(torch.zeros(7, 3, 8) for _ in range(2))


class ModelOutput(OrderedDict):  # type: ignore[type-arg]
    """As that of Hugging Face: a dictionary without its entries that are None, which are attributes, too."""

    def __init__(self, **entries: Any) -> None:
        super().__init__((name, value) for name, value in entries.items() if value is not None)
        for name, value in entries.items():
            setattr(self, name, value)


@dataclass
class Output:
    """As a model's own class, with attributes alone."""

    logits: Any = None
    probs: Any = None


Pair = namedtuple("Pair", ("features", "logits"))
LOGITS: dict[str, Any] = {
    "tensor": X,
    "array": X.numpy(),
    "hugging face": ModelOutput(loss=None, logits=X, hidden_states=HIDDEN),
    "hugging face, with a loss": ModelOutput(loss=torch.tensor(0.3), logits=X),
    "dictionary": {"logits": X, "features": torch.zeros(7, 9)},
    "both": {"probs": P, "logits": X},
    "dataclass": Output(logits=X),
    "named tuple": Pair(torch.zeros(7, 9), X),
    "tuple": (X, HIDDEN),
    "tuple of one": (X,),
    "list": [X, torch.zeros(7, 3, 8), None],
    "of arrays": {"logits": X.numpy()},
}
PROBABILITIES: dict[str, Any] = {
    "tensor": P,
    "probabilities": {"probabilities": P},
    "probs": Output(probs=P, logits=X),
    "namespace": SimpleNamespace(probs=P),
    "tuple": (P, torch.tensor(0.1)),
}


def served(returned: Any, **options: Any) -> mp.Defended:
    return mp.Defended(lambda x: returned, Rounding(2), **options)


@pytest.mark.parametrize("name", LOGITS)
def test_logits_are_read(name: str) -> None:
    q = served(LOGITS[name], gives="logits")(None)
    assert isinstance(q, np.ndarray) == ("array" in name)
    assert torch.equal(torch.as_tensor(q), Rounding(2)(P))


@pytest.mark.parametrize("name", PROBABILITIES)
def test_probabilities_are_read(name: str) -> None:
    assert torch.equal(served(PROBABILITIES[name])(None), Rounding(2)(P))


@pytest.mark.parametrize("name", sorted(set(LOGITS) - {"both"}))
def test_names_and_rows_must_agree_where_gives_is_found_out(name: str) -> None:
    assert served(LOGITS[name], gives=None, example=0).gives == "logits"
    for returned in ({"probs": P, "loss": None}, (P,)):
        assert served(returned, gives=None, example=0).gives == "probabilities"
    for returned, told in (({"logits": P}, "logits"), ({"probs": X}, "probabilities")):
        with pytest.raises(ValueError, match=rf"expected {told} where .* name them, got"):
            served(returned, gives=None, example=0)
    with pytest.raises(TypeError, match=r"one of 'probs', 'logits', got a dict .*; tell gives"):
        served(LOGITS["both"], gives=None, example=0)


@pytest.mark.parametrize(
    ("returned", "gives", "message"),
    [
        ({"logits": X}, "probabilities", r"got a dict with the keys 'logits', .*gives='logits'"),
        (
            Output(logits=X),
            "probabilities",
            r"got a Output with the attributes 'logits'.*pass gives",
        ),
        (ModelOutput(probs=P), "logits", r"ModelOutput with the keys 'probs', .*gives='probabil"),
        (
            {"scores": X, "y": X},
            "logits",
            r"name 'logits', got a dict with the keys 'scores', 'y'; ",
        ),
        ({"scores": P}, "probabilities", r"'probabilities' or 'probs', got .*lambda x: model\(x\)"),
        ({}, "logits", r"keys \(none\)"),
        ({"logits": None}, "logits", r"name 'logits', got a dict with the keys 'logits'"),
        ({"probabilities": P, "probs": P}, "probabilities", r"one of 'probabilities', 'probs'"),
        (
            (torch.tensor(0.3), X),
            "logits",
            r"a tuple of \[\], \[7, 5\], as with a loss.*\(x\)\[1\]",
        ),
        ((torch.zeros(7), X), "logits", r"\[7\], \[7, 5\], as with a loss"),
        ((X, torch.zeros(7, 64)), "logits", r"\[7, 5\], \[7, 64\], of which several could be it"),
        ((X, X), "logits", r"of which several"),
        ([X, X.numpy()], "logits", r"of which several"),
        (
            (X[0], X[1]),
            "logits",
            r"one tensor or array \[N, K\], got a tuple of \[5\], \[5\]; .*\.logits",
        ),
        ([[0.5, 0.5]], "probabilities", r"got a list of list"),
        ((), "logits", r"got a tuple of nothing"),
        (0.5, "logits", r"numpy\.ndarray .* got float"),
        (SimpleNamespace(loss=1), "logits", r"got SimpleNamespace"),
        ({"logits": [[1.0, "a"]]}, "logits", r"numbers"),
    ],
)
def test_what_cannot_be_told_is_refused(returned: Any, gives: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        served(returned, gives=gives)(None)


def test_logits_under_a_name_are_checked_as_rows() -> None:
    with pytest.raises(ValueError, match=r"expected the model's answers of shape \[N, K\]"):
        answers_of({"logits": X[0]}, "logits")
    # Logits under the name of probabilities are no probability vectors.
    with pytest.raises(ValueError, match="got rows 0"):
        served({"probs": X})(None)


# Defended, with what goes over the wire.


class Named(nn.Module):
    """Logits as Hugging Face has them."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(8, K)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"logits": self.linear(x)}


def inputs() -> Tensor:
    return torch.randn(30, 8, generator=torch.Generator().manual_seed(1))


def wired(**options: Any) -> mp.Defended:
    torch.manual_seed(0)
    return mp.Defended(Named(), Rounding(2), gives="logits", validate=False, **options)


def test_defended_serves_decimals_and_the_largest_entries() -> None:
    whole, x = wired()(inputs()), inputs()
    q = wired(decimals=3)(x)
    assert q.dtype == torch.float64 and float((q - whole).abs().max()) < 2e-3
    top = wired(decimals=3, top_k=2)(x)
    assert isinstance(top, TopK) and torch.equal(top.values, q.gather(1, top.classes))
    assert torch.equal(wired(top_k=2)(x).classes, top.classes)
    assert "decimals=3, top_k=2" in repr(wired(decimals=3, top_k=2))
    assert "decimals" not in wired().extra_repr()


DECIMALS, TOP, BOTH = {"decimals": 4}, {"top_k": 2}, {"decimals": 4, "top_k": 2}
DEFENSES: dict[str, Any] = {
    "rounding": lambda: Rounding(2),
    "ball": lambda: mp.LPA.fit(*world(60, K, 2), objective="direction", key=1),
    "lfp": lambda: mp.LFP(rate=0.5, key=1),
}


def parts(answer: Any) -> list[Tensor]:
    return list(answer) if isinstance(answer, tuple) else [answer]


@pytest.mark.parametrize(
    ("name", "options", "validate"),
    [
        ("ball", BOTH, False),
        *later(("ball", DECIMALS, True), ("lfp", DECIMALS, False), ("rounding", TOP, False)),
    ],
)
def test_it_compiles(name: str, options: dict[str, int], validate: bool) -> None:
    """Whole without validation, and with the same bits."""
    served = mp.Defended(Named(), DEFENSES[name](), gives="logits", validate=validate, **options)
    torch._dynamo.reset()
    compiled = torch.compile(served, fullgraph=not validate, backend="aot_eager")
    for x in (inputs(), inputs()[:5]):
        for ours, theirs in zip(parts(compiled(x)), parts(served(x)), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("options", [BOTH, *later(DECIMALS, TOP)])
def test_it_exports(options: dict[str, int]) -> None:
    """Saved and loaded, for batches of any size."""
    served, x = wired(**options), inputs().index_fill(0, torch.tensor([3]), torch.nan)
    batch = torch.export.Dim("batch", min=2)
    program = torch.export.export(served, (x,), dynamic_shapes={"args": ({0: batch},)})
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    loaded = torch.export.load(file).module()
    for rows in (x, x[:7]):
        for ours, theirs in zip(parts(loaded(rows)), parts(served(rows)), strict=True):
            assert torch.equal(ours, theirs)
