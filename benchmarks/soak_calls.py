"""Random calls of the operators for the soak test, each with the guarantees that its result must keep."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from mipoison import cpu
from mipoison.reference import label_of
from mipoison.reference.move import STYLES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from distributions import DISTRIBUTIONS, draw, relabelled
from operands import packed

NORMS = ("l1", "l2", "linf")
# Tensors that belong to all rows.
SHARED = ("key", "codewords", "offsets", "network")


@dataclass(frozen=True)
class Call:
    """An operator and its arguments. A string among the arguments names a tensor.

    Attributes:
        operation: the operator's name.
        arguments: in the operator's order.
        tensors: by name; [n, k] rows, [n] labels, or what belongs to all rows.
        promise: what must hold of the result. "label" and "center" name tensors, or are None;
            "epsilon", "norm", "margin" and "shrink" are the settings that it must respect.
    """

    operation: str
    arguments: tuple[Any, ...]
    tensors: dict[str, Tensor]
    promise: dict[str, Any]

    def run(self, instruction_set: str, threads: int) -> tuple[Tensor, ...]:
        """The operator's results by the kernels of an instruction set."""
        before = torch.get_num_threads()
        given = [self.tensors.get(x, x) for x in self.arguments]
        try:
            torch.set_num_threads(threads)
            with cpu.using(instruction_set):
                results: tuple[Tensor, ...] = getattr(torch.ops.mipoison, self.operation)(*given)
        finally:
            torch.set_num_threads(before)
        return results

    def only(self, rows: Tensor) -> Call:
        """The same call on some of its rows."""
        fewer = {
            name: x if name in SHARED else x[rows].contiguous() for name, x in self.tensors.items()
        }
        return Call(self.operation, self.arguments, fewer, self.promise)

    def save(self, path: Path, **where: Any) -> None:
        """Writes the call to a file that `load` reads."""
        about = {"operation": self.operation, "arguments": self.arguments, "promise": self.promise}
        save_file(self.tensors, path, metadata={"call": json.dumps(about | where)})

    @classmethod
    def load(cls, path: Path) -> tuple[Call, dict[str, Any]]:
        """A saved call, and the instruction set and threads that it ran with."""
        with safe_open(path, "pt") as file:
            about = json.loads(file.metadata()["call"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        call = cls(
            about.pop("operation"), tuple(about.pop("arguments")), tensors, about.pop("promise")
        )
        return call, about


def mixed_rows(random: Random, n: int, k: int) -> Tensor:
    """Rows of every distribution of the tests, and of a random temperature, float32 [n, k].

    They are shuffled, so that the kernels, which work on several rows at a time, get rows of different kinds together.
    """
    kinds = (*DISTRIBUTIONS, "temperature")
    parts = []
    for i, kind in enumerate(kinds):
        share, seed = n // len(kinds) + (i < n % len(kinds)), random.getrandbits(62)
        if kind == "temperature":
            generator = torch.Generator().manual_seed(seed)
            logits = torch.randn(share, k, generator=generator)
            parts.append(torch.softmax(10 ** random.uniform(-4, 1.5) * logits, 1))
        else:
            parts.append(draw(kind, share, k, seed).float())
    generator = torch.Generator().manual_seed(random.getrandbits(62))
    return torch.cat(parts)[torch.randperm(n, generator=generator)]


def noise(random: Random, n: int, k: int) -> Tensor:
    """Gaussian, sparse, sign or partly zero rows, float32 [n, k]."""
    generator = torch.Generator().manual_seed(random.getrandbits(62))
    x = torch.randn(n, k, generator=generator)
    kind = random.choice(["dense", "dense", "sparse", "signs", "some rows"])
    if kind == "sparse":
        return x * (torch.rand(n, k, generator=generator) < 0.1)
    if kind == "some rows":
        return x * (torch.rand(n, 1, generator=generator) < 0.5)
    return x.sign() if kind == "signs" else x


def random_set(random: Random, tensors: dict[str, Tensor]) -> tuple[Any, ...]:
    """Draws p, t, ε, norm, m and shrink of a set C that is not empty. Labels that it names are added to the tensors."""
    n, k = tensors["p"].shape
    norm = random.choice(NORMS)
    margin = random.choice([0.0, 0.0, random.uniform(0, 1), 10 ** random.uniform(-9, 0), 1.0])
    if random.random() < 0.75:
        epsilon = 0.0 if random.random() < 0.05 else 10 ** random.uniform(-7, 0.3)
        return "p", None, epsilon, norm, margin, True
    # Without a ball the set is not empty for any label.
    center = random.choice(["p", None])
    label = None
    if random.random() < 0.5:
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        tensors["t"], label = torch.randint(0, k, (n,), generator=generator), "t"
    shrink = center is not None and random.random() < 0.5
    return center, label, math.inf, norm, margin, shrink


def promise_of(
    tensors: dict[str, Tensor], source: str, arguments: tuple[Any, ...]
) -> dict[str, Any]:
    """What `project` and `step` promise of these arguments."""
    center, label, epsilon, norm, margin, shrink = arguments
    tensors["label"] = tensors["t"] if label else label_of(tensors[center or source])
    return {
        "label": "label",
        "center": center,
        "epsilon": epsilon,
        "norm": norm,
        "margin": margin,
        "shrink": shrink,
    }


def step(random: Random, p: Tensor) -> Call:
    """A step from p or from other rows, of a length from zero to far beyond the simplex."""
    n, k = p.shape
    tensors = {"p": p, "g": noise(random, n, k) * 10 ** random.uniform(-30, 30)}
    q = "p"
    if random.random() < 0.3:
        q, tensors["q"] = "q", mixed_rows(random, n, k)
    alpha = 0.0 if random.random() < 0.05 else 10 ** random.uniform(-8, 4)
    around = random_set(random, tensors)
    center, label, *rest = around
    promise = promise_of(tensors, q, around)
    return Call("step", (q, "g", center, label, alpha, *rest), tensors, promise)


def project(random: Random, p: Tensor) -> Call:
    """A projection of points at any distance from p; ties arise close to p."""
    tensors = {"p": p, "z": p + noise(random, *p.shape) * 10 ** random.uniform(-9, 6)}
    around = random_set(random, tensors)
    return Call("project", ("z", *around), tensors, promise_of(tensors, "z", around))


def move(random: Random, p: Tensor) -> Call:
    """A move toward rows of the same labels: other rows, with the largest entry swapped to the label's place."""
    label = label_of(p)
    swapped = relabelled(mixed_rows(random, *p.shape), label)
    # Of equal largest entries the lowest index is the label, so a swap may still have left another label.
    target = torch.where((label_of(swapped) == label)[:, None], swapped, p)
    style = random.choice(STYLES)
    norm = random.choice(NORMS) if style == "straight" else "l1"
    epsilon = random.choice([0.0, math.inf, *(10 ** random.uniform(-7, 0.3) for _ in range(8))])
    promise = {"label": "label", "center": "p", "epsilon": epsilon, "norm": norm}
    tensors = {"p": p, "target": target, "label": label}
    return Call("move", ("p", "target", epsilon, norm, style), tensors, promise)


def flip(random: Random, p: Tensor) -> Call:
    """A flip at a random rate, toward drawn or given labels. The result names the labels that it serves."""
    n, k = p.shape
    key = torch.tensor([random.getrandbits(32) for _ in range(4)])
    tensors, targets = {"p": p, "key": key}, None
    if random.random() < 0.5:
        generator = torch.Generator().manual_seed(random.getrandbits(62))
        tensors["targets"], targets = torch.randint(-1, k, (n,), generator=generator), "targets"
    rate = random.choice([0.0, 1.0, random.random(), 10 ** random.uniform(-4, 0)])
    style = random.choice(["swap", "project"])
    promise = {"label": None, "center": None, "epsilon": math.inf, "norm": "l1"}
    return Call("flip", ("p", targets, rate, "key", style), tensors, promise)


def quantize(random: Random, p: Tensor) -> Call:
    """A codebook of few or many codewords, with and without offsets."""
    k = p.shape[1]
    words = random.choice([1, 2, 16, 17]) if k <= 200 else 1
    made = relabelled(mixed_rows(random, k * words, k), torch.arange(k).repeat_interleave(words))
    tensors, offsets = {"p": p, "codewords": made.view(k, words, k), "label": label_of(p)}, None
    if random.random() < 0.5:
        tensors["offsets"], offsets = torch.full((k, words), random.random()), "offsets"
    promise = {"label": "label", "center": None, "epsilon": math.inf, "norm": "l1"}
    return Call("quantize", ("p", "codewords", offsets), tensors, promise)


def perturb(random: Random, p: Tensor) -> Call:
    """Steps of any length along a small network's gradient, with p or other rows as center."""
    n, k = p.shape
    # Not cached: each batch has another k.
    network = packed.__wrapped__(k, members=1, seed=random.getrandbits(30))
    generator = torch.Generator().manual_seed(random.getrandbits(62))
    goal = torch.randn(n, random.choice([1, 3, 32]), generator=generator)
    tensors = {"p": p, "goal": goal, "network": network.packed}
    center = "p"
    if random.random() < 0.3:
        center, tensors["center"] = "center", mixed_rows(random, n, k)
    _, _, *region = random_set(random, tensors)
    promise = promise_of(tensors, "p", (center, None, *region))
    alpha = random.choice([-1, 1]) * 10 ** random.uniform(-8, 4)
    given = ("p", "goal", "network", network.members, network.width, center, None)
    steps, smooth = random.choice([1, 2, 3]), random.random() < 0.5
    return Call("perturb", (*given, steps, alpha, *region, smooth), tensors, promise)


CALLS: dict[str, Callable[[Random, Tensor], Call]] = {
    "step": step,
    "project": project,
    "move": move,
    "flip": flip,
    "quantize": quantize,
    "perturb": perturb,
}
