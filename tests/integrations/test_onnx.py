"""Exported programs in standard operators: without mipoison, and in ONNX Runtime."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from distributions import draw
from later import unless
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
from mipoison.integrations.onnx import standard_operators, to_onnx
from mipoison.reference.rounding import above

K = 5


def codebook(**settings: float) -> Defense:
    outputs = draw("plain", 60, K).float()
    inputs = torch.rand(60, 6, generator=torch.Generator().manual_seed(0))
    return mp.LPA.fit(outputs, inputs, objective="codebook", budget=0.5, **settings)


def contract(**settings: float) -> Defense:
    return Contract.fit(draw("plain", 60, K).float(), epsilon=0.2, **settings)


DEFENSES: dict[str, Callable[[], Defense]] = {
    "label-only": LabelOnly,
    "rounding": lambda: Rounding(1),
    "top-k": lambda: TopK(2),
    "temperature": lambda: Temperature(temperature=3.0),
    "reverse-sigmoid": ReverseSigmoid,
    "high-confidence": lambda: HighConfidence(cutoff=0.1),
    "codebook": codebook,
    "contract without margin": lambda: contract(margin=0.0),
}
INFINITE = torch.tensor([[torch.inf, 0, 0, 0, 0], [0, 0, -torch.inf, 1, 0]])


def rows() -> Tensor:
    """Rows of all kinds, of which some are no probability vectors."""
    kinds = ("plain", "peaked", "near-ties", "zeros")
    p = torch.cat([draw(kind, 20, K).float() for kind in kinds])
    return torch.cat((p, 2 * p[:1], torch.full((1, K), torch.nan), INFINITE))


def exported(defense: Defense, p: Tensor) -> tuple[nn.Module, torch.export.ExportedProgram]:
    served = mp.Defended(nn.Identity(), defense, validate=False)
    return served, torch.export.export(
        served, (p,), dynamic_shapes={"args": ({0: torch.export.Dim("n", min=1)},)}
    )


@pytest.mark.parametrize("name", unless(("rounding", "codebook"), DEFENSES))
def test_onnx_runtime(name: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    p = rows()
    served, program = exported(DEFENSES[name](), p)
    made = to_onnx(program, verbose=False)
    made.save(tmp_path / "served.onnx")
    assert {node.domain for node in made.model.graph.all_nodes()} == {""}
    session = runtime.InferenceSession(tmp_path / "served.onnx")
    (given,) = session.get_inputs()
    for some in (p, p[-3:], p[:1]):
        q = torch.from_numpy(session.run(None, {given.name: some.numpy()})[0])
        assert torch.allclose(q, served(some), rtol=0, atol=2e-7)
        assert torch.equal(q.argmax(1), served(some).argmax(1))
        assert float(q.min()) >= 0 and float((q.double().sum(1) - 1).abs().max()) <= 1e-6


@pytest.mark.full
def test_a_program_without_the_package(tmp_path: Path) -> None:
    p = rows()
    served, program = exported(codebook(), p)
    torch.export.save(standard_operators(program), tmp_path / "served.pt2")
    torch.save((p, served(p)), tmp_path / "rows.pt")
    code = (
        "import sys, torch\n"
        "p, q = torch.load('rows.pt')\n"
        "assert torch.equal(torch.export.load('served.pt2').module()(p), q)\n"
        "assert 'mipoison' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


@pytest.mark.parametrize("make", [contract, lambda: codebook(epsilon=0.2)])
def test_a_ball_is_refused(make: Callable[[], Defense]) -> None:
    with pytest.raises(
        ValueError, match=r"expected no projection inside a ball, got one of radius 0\.2"
    ):
        standard_operators(exported(make(), rows())[1])


def test_other_operators_are_refused() -> None:
    class Steps(nn.Module):
        def forward(self, p: Tensor) -> Tensor:
            return mp.step(p, p, alpha=0.1, validate=False)

    program = torch.export.export(Steps(), (rows(),))
    with pytest.raises(
        ValueError, match=r"expected operators of a defense without a key.*got step"
    ):
        standard_operators(program)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_next_number_in_a_graph(dtype: torch.dtype) -> None:
    """Arithmetic in place of a number's bits: every number in 16 bits, and those around all powers of two."""
    if dtype.itemsize == 2:
        x = torch.arange(2**15, dtype=torch.int16).view(dtype)
    else:
        # (Next to the subnormal numbers of float64 the sum is rounded twice. Defenses set so small entries to zero.)
        x = torch.logspace(-290, 2, 5000, base=10, dtype=torch.float64).to(dtype)
        powers = torch.logspace(-160, 6, 167, base=2, dtype=torch.float64).to(dtype)
        x = torch.cat((x, powers, torch.nextafter(powers, powers * 0), torch.zeros(1, dtype=dtype)))
    x = x[x < 60000]
    graph = make_fx(lambda x: above(x, dtype))(x)
    assert "view" not in graph.code
    assert torch.equal(graph(x), above(x, dtype))
