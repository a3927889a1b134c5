"""What `torch.export` writes to a file, read back: every keyless defense, as it is and behind a classifier."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fresh
import pytest
import torch
from distributions import draw
from later import fewer, later, unless
from operands import goal_of, packed
from table import codewords_of
from torch import Tensor, nn
from torch.fx.experimental.proxy_tensor import make_fx

import mipoison as mp
from mipoison.defenses import (
    Contract,
    HighConfidence,
    LabelOnly,
    ReverseSigmoid,
    Rounding,
    Temperature,
    TopK,
)
from mipoison.defenses.base import Defense

K = 5
WORDS = codewords_of(K, 2)
NETWORK, GOAL = packed(K), goal_of(9)
KEYLESS: dict[str, Callable[[], Defense]] = {
    "label-only": LabelOnly,
    "rounding": lambda: Rounding(1),
    "top-k": lambda: TopK(2),
    "temperature": lambda: Temperature(temperature=3.0),
    "reverse-sigmoid": ReverseSigmoid,
    "high-confidence": lambda: HighConfidence(cutoff=0.1),
    "contract": lambda: Contract.fit(draw("plain", 60, K).float(), epsilon=0.2),
    "waterfill": lambda: Contract.fit(draw("plain", 60, K).float(), style="waterfill"),
    "sparse": lambda: Contract.fit(draw("plain", 60, K).float(), style="sparse"),
    "codebook": lambda: codebook(),
    "codebook-l1": lambda: codebook(epsilon=0.2),
    "codebook-linf": lambda: codebook(epsilon=0.1, norm="linf"),
    "cutoff": lambda: cutoff(),
    "cutoff-l1": lambda: cutoff(epsilon=0.2),
}


def cutoff(**settings: Any) -> mp.LPA:
    outputs = draw("plain", 60, K).float()
    inputs = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    return mp.LPA.fit(outputs, inputs, objective="cutoff", budget=0.2, **settings)


def codebook(**settings: Any) -> mp.LPA:
    outputs = draw("plain", 60, K).float()
    inputs = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    return mp.LPA.fit(outputs, inputs, objective="codebook", budget=0.5, **settings)


class Classifier(nn.Linear):
    """Logits, computed without gradient as some models do at inference."""

    def __init__(self) -> None:
        super().__init__(8, K)

    def forward(self, x: Tensor) -> Tensor:
        with torch.no_grad():
            features = x.square().sqrt()
        return super().forward(features)


class Bare(nn.Module):
    """A defense alone, as a step of somebody's own module."""

    def __init__(self, defense: Defense) -> None:
        super().__init__()
        self.defense = defense

    def forward(self, p: Tensor) -> Any:
        return self.defense(p, validate=False)


# Of these, one for each way in which a defense answers.
FEW = ("label-only", "rounding", "contract", "codebook", "reverse-sigmoid")


class Every(nn.Module):
    """Every defense behind one classifier, so that one program tells of all."""

    def __init__(self) -> None:
        super().__init__()
        model = Classifier()
        made = {name: make() for name, make in KEYLESS.items() if fewer(name in FEW, True)}
        self.served = nn.ModuleDict(
            {
                name: mp.Defended(model, defense, gives="logits", validate=False)
                for name, defense in made.items()
            }
        )

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {name: served(x) for name, served in self.served.items()}


def through_a_file(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program saved and loaded."""
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    return torch.export.load(file)


def calls(program: torch.export.ExportedProgram) -> Iterator[torch.fx.Node]:
    """The calls of the package's operators in a program."""
    return (node for node in program.graph.nodes if "mipoison" in str(node.target))


@pytest.fixture
def x() -> Tensor:
    """Inputs of which one gives answers that are not finite."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(40, 8, generator=generator).index_fill(0, torch.tensor([3]), torch.nan)


@pytest.mark.parametrize("strict", [False, *later(True)])
@pytest.mark.parametrize("name", unless(("waterfill",), KEYLESS))
def test_a_defended_classifier_survives_a_file(name: str, strict: bool, x: Tensor) -> None:
    served = mp.Defended(Classifier(), KEYLESS[name](), gives="logits", validate=False)
    program = through_a_file(torch.export.export(served, (x,), strict=strict))
    assert torch.equal(program.module()(x), served(x))


@pytest.mark.parametrize("name", unless(("temperature",), KEYLESS))
def test_a_defense_survives_a_file(name: str) -> None:
    p, defense = draw("peaked", 33, K).float(), Bare(KEYLESS[name]())
    n = torch.export.Dim("n", min=2)
    exported = torch.export.export(defense, (p[:7],), dynamic_shapes=({0: n},))
    assert torch.equal(through_a_file(exported).module()(p), defense(p))


def test_operator_takes_none_for_no_ball() -> None:
    """Not every format knows an infinite number: the compiler of AOTInductor's packages reads back a text."""
    p = draw("plain", 9, K).float()

    class Projects(nn.Module):
        def forward(self, p: Tensor) -> Any:
            given = {"center": p, "validate": False}
            return (
                mp.project(p * 2, **given),
                mp.project(p * 2, **given, epsilon=math.inf),
                mp.step(p, p.flip(1), **given, alpha=0.1),
                mp.move(p, p, epsilon=None, validate=False),
                *mp.quantize(p, WORDS, validate=False),
                mp.recover(p, NETWORK, validate=False),
                mp.perturb(p, GOAL, NETWORK, steps=2, alpha=0.1, validate=False),
            )

    program = torch.export.export(Projects(), (p,))
    numbers = [x for node in calls(program) for x in node.args if isinstance(x, float)]
    assert len(list(calls(program))) == 7 and numbers and all(map(math.isfinite, numbers))
    for ours, theirs in zip(program.module()(p), Projects()(p), strict=True):
        assert torch.equal(ours, theirs)


def test_every_defense_survives_in_another_process(x: Tensor, tmp_path: Path) -> None:
    every = Every()
    program = torch.export.export(every, (x,))
    # A ball without radius leaves none: infinite are only what fills the place of a label, and the order of a norm.
    for node in program.graph.nodes:
        if any(isinstance(a, float) and math.isinf(a) for a in node.args):
            assert str(node.target) in ("aten.full.default", "aten.linalg_vector_norm.default")
    torch.export.save(program, tmp_path / "every.pt2")
    torch.save((x, every(x)), tmp_path / "answers.pt")
    done = fresh.run(
        "import mipoison, torch\n"
        "torch.set_num_threads(1)\n"
        "x, expected = torch.load('answers.pt')\n"
        "answers = torch.export.load('every.pt2').module()(x)\n"
        "assert list(answers) == list(expected)\n"
        "assert all(torch.equal(answers[name], q) for name, q in expected.items())\n",
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr


# A minute: a C++ compiler is at work.
@pytest.mark.full
def test_aot_inductor_package(x: Tensor, tmp_path: Path) -> None:
    every = Every()
    package = torch._inductor.aoti_compile_and_package(
        torch.export.export(every, (x,)), package_path=str(tmp_path / "served.pt2")
    )
    answers = torch._inductor.aoti_load_package(package)(x)
    # The classifier's and the softmax's own roundings are the compiler's.
    for name, expected in every(x).items():
        q = answers[name]
        assert torch.allclose(q, expected, rtol=0, atol=1e-6), name
        assert torch.equal(q.argmax(1), expected.argmax(1)), name
        assert float(q.min()) >= 0 and float((q.double().sum(1) - 1).abs().max()) <= 1e-6, name


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.trace:DeprecationWarning", "ignore::torch.jit.TracerWarning"
)
@pytest.mark.parametrize("how", ["jit", "make_fx"])
def test_a_trace_holds_no_check_of_its_example(how: str) -> None:
    p, odd = draw("plain", 5, K).float(), torch.full((5, K), 0.9)
    odd[0] = torch.nan

    def traced(validate: bool) -> Callable[[Tensor], Tensor]:
        def ask(rows: Tensor) -> Tensor:
            return Rounding(1)(rows, validate=validate)

        return torch.jit.trace(ask, (p,)) if how == "jit" else make_fx(ask)(p)  # type: ignore[no-any-return]

    with pytest.raises(RuntimeError, match=r"expected validate=False under torch\.jit\.trace"):
        traced(True)
    assert torch.equal(traced(False)(odd), Rounding(1)(odd, validate=False))
