"""Random calls of every operator, seeded and bounded in time: whatever comes, it is answered or refused.

The sanitizers of `make sanitize` watch what is read and written meanwhile; here every row of an answer is a vector that
may be served, and every instruction set counts the same rows as invalid.

Run as `python tests/fuzz.py --seconds 60 --seed 0`.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from operands import IN_BANKS, bank_of, packed
from torch import Tensor

from mipoison import cpu
from mipoison.reference.move import STYLES

OPS = torch.ops.mipoison
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
ROWS = (0, 1, 2, 5, 15, 16, 17, 33, 64)
CLASSES = (*range(2, 18), 31, 33, 63, 64, 65, 100, 255, 319, 320, 321, 322, 1000, 1001, 5000)
# Entries of a call, but for those that several threads share.
MOST = 30_000
THREADS = (1, 2, 8)
STRANGE = (
    *(math.nan, math.inf, -math.inf, -0.0, 0.0, 1.0, -1.0, 5e-324, 1e-310, 1e-45, 1e-40, 1e-38),
    *(6e-8, 1e-5, 65504.0, 1e15, -1e15, 2e15, 3.4e38, 1e200, 1.7e308),
)
NUMBERS = (0.0, 1e-320, 1e-9, 1e-6, 0.01, 0.2, 0.5, 1.0, 2.0, 50.0, 1e12, math.inf)
WORST = (*NUMBERS, -1.0, math.nan, -math.inf, 1e308)
# How far the sum of an answer may be from one: a half ulp of each entry, and what float32 is promised.
ULP = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}


def matrix(random: Random, n: int, k: int, dtype: torch.dtype) -> Tensor:
    """[N, K] in any layout: probability vectors of all kinds, points, and entries of every sort among them."""
    generator = torch.Generator().manual_seed(random.getrandbits(60))
    x = torch.randn(n, k, generator=generator, dtype=torch.float64)
    kind = random.choice(("peaked", "flat", "points", "hot", "ties", "far", "tiny", "bits"))
    if kind in ("peaked", "flat", "tiny"):
        x = torch.softmax({"peaked": 8, "flat": 0.01, "tiny": 60}[kind] * x, 1)
    elif kind == "hot":
        x = torch.zeros(n, k, dtype=torch.float64).scatter_(1, x.argsort(1)[:, :1], 1.0)
    elif kind == "ties":
        x = x.sign().clamp(min=0) + 1
        x = x / x.sum(1, keepdim=True)
    elif kind == "far":
        x = x * random.choice((1e3, 1e6, 1e14, 1e30))
    if kind == "bits":
        # NaN of every payload too.
        return laid_out(
            random,
            torch.randint(-(2**63), 2**63 - 1, (n, k), generator=generator).view(dtype)[:, :k],
        )
    if n and random.random() < 0.5:
        for _ in range(random.randint(1, 4)):
            x[random.randrange(n), random.randrange(k)] = random.choice(STRANGE)
    return laid_out(random, x.to(dtype))


def laid_out(random: Random, x: Tensor) -> Tensor:
    """The same entries elsewhere in memory."""
    n, k = x.shape
    layout = random.choice(("plain",) * 4 + ("turned", "gaps", "rows apart", "shifted", "one row"))
    if layout == "turned":
        return x.t().contiguous().t()
    if layout == "gaps":
        return x.repeat_interleave(2, 1)[:, ::2]
    if layout == "rows apart":
        return torch.cat([x, x], 1)[:, :k]
    if layout == "shifted":
        return torch.cat([x.new_zeros(1), x.flatten()])[1:].view(n, k)
    if layout == "one row" and n:
        return x[:1].expand(n, k)
    return x


def margin_of(name: str, given: tuple[Any, ...]) -> float:
    """The margin of a call of `project`, `step` and `perturb`."""
    places = {"project": 5, "project_out": 5, "step": 7, "step_out": 7}
    place = (places | {"perturb": 11, "perturb_out": 11}).get(name)
    return 0.0 if place is None else float(given[place])


def labels(random: Random, n: int, k: int) -> Tensor | None:
    """[N] labels, some of which are none, some spread out."""
    if random.random() < 0.4:
        return None
    t = torch.tensor([random.randrange(k) for _ in range(n)], dtype=torch.int64)
    if n and random.random() < 0.3:
        t[random.randrange(n)] = random.choice((-1, -2, k, k + 1, 2**31, -(2**63), 2**63 - 1))
    return t.repeat_interleave(3)[::3] if random.random() < 0.2 else t


def _finite(results: tuple[Tensor, ...], *_: Any) -> None:
    *found, status = results
    assert all(bool(x.isfinite().all()) for x in found) and 0 <= int(status) <= len(found[0])


def _recovered(results: tuple[Tensor, ...], *_: Any) -> None:
    """NaN stands for an overflow, in all numbers of a row that is counted."""
    found, status = results
    lost = found.isnan().any(1)
    assert torch.equal(lost, found.isnan().all(1)) and not bool(found.isinf().any())
    assert int(lost.sum()) <= int(status) <= len(found)


def _labels(results: tuple[Tensor, ...], x: Tensor) -> None:
    (label,) = results
    assert label.shape == x.shape[:1] and bool(((label >= 0) & (label < x.shape[1])).all())


def _number_a_row(results: tuple[Tensor, ...], q: Tensor, *_: Any) -> None:
    assert results[0].shape == q.shape[:1]


def _row_a_row(results: tuple[Tensor, ...], p: Tensor, *_: Any) -> None:
    assert results[0].shape == p.shape and results[0].dtype == torch.float32


def _picked(results: tuple[Tensor, ...], p: Tensor, vectors: Tensor, *_: Any) -> None:
    chosen, place = results
    assert bool(((place >= 0) & (place < len(vectors) + 2 * p.shape[1])).all())
    assert chosen.shape == (*place.shape, p.shape[1]) and bool((chosen >= 0).all())


def _near(results: tuple[Tensor, ...], *_: Any) -> None:
    assert bool((results[0] >= 0).all())


def _chosen(results: tuple[Tensor, ...], p: Tensor, vectors: Tensor, *_: Any) -> None:
    place, share = results
    assert bool(((place >= -1) & (place < len(vectors))).all())
    assert bool(torch.isin(share, torch.tensor((0.0, 0.25, 0.5, 1.0))).all())


def _strays(results: tuple[Tensor, ...], q: Tensor, *_: Any) -> None:
    assert results[0].shape == q.shape[:1] and int(results[1]) == int(results[0].sum())


def _served(results: tuple[Tensor, ...], p: Tensor, *_: Any) -> None:
    (q,) = results
    assert q.shape == p.shape and q.dtype == p.dtype and bool((q >= 0).all())


def _approached(
    results: tuple[Tensor, ...], p: Tensor, vectors: Tensor, place: Tensor, *_: Any
) -> None:
    assert results[0].shape == p.shape and int(results[1]) == int((place < 0).sum())


# What holds of results that are no rows to serve.
JUDGED: dict[str, Callable[..., None]] = {
    "recover": _recovered,
    "pull": _finite,
    "label_of": _labels,
    "lead": _number_a_row,
    "distance": _number_a_row,
    "lose_label": _number_a_row,
    "soften": _row_a_row,
    "stray": _strays,
    "keyed_step": _served,
    "approach": _approached,
    "pick_each": _picked,
    "nearest": _near,
    "choose_move": _chosen,
}


class Caller:
    """Draws calls and makes them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.made = dict.fromkeys(self.kinds(), 0)
        self.refused = 0

    def kinds(self) -> dict[str, Callable[[int, int, torch.dtype], tuple[str, tuple[Any, ...]]]]:
        """What draws the arguments of each operator."""
        return {
            "project": self.project,
            "step": self.step,
            "project_out": self.project_out,
            "step_out": self.step_out,
            "move": self.move,
            "flip": self.flip,
            "row_bits": self.row_bits,
            "quantize": self.quantize,
            "quantize_out": self.quantize_out,
            "project_vjp": self.project_vjp,
            "recover": self.recover,
            "pull": self.pull,
            "perturb": self.perturb,
            "perturb_out": self.perturb_out,
            "clean": lambda *size: (matrix(self.random, *size),),
            "label_of": lambda *size: (matrix(self.random, *size),),
            "lead": self.pair,
            "distance": lambda *size: (*self.pair(*size), self.limits()[1]),
            "lose_label": self.lose_label,
            "soften": self.soften,
            "stray": lambda *size: (*self.pair(*size), self.limits()[1], *self.three()),
            "keyed_step": self.keyed_step,
            "approach": self.approach,
            "pick_each": self.pick_each,
            "nearest": self.nearest,
            "choose_move": self.choose_move,
        }

    def limits(self) -> tuple[float | None, str, float, bool]:
        """Epsilon, norm, margin, shrink: sensible ones more often than others."""
        random = self.random
        some = WORST if random.random() < 0.2 else NUMBERS
        epsilon = random.choice((None, random.choice(some), random.random()))
        margin = random.choice((0.0, 0.0, 0.01, random.random(), random.choice(some)))
        norm = random.choice(("l1", "l2", "linf") * 8 + ("l3",))
        return epsilon, norm, margin, random.random() < 0.5

    def center(self, like: Tensor) -> Tensor | None:
        """None, the rows themselves, or others."""
        n, k = like.shape
        return self.random.choice((None, like, matrix(self.random, n, k, like.dtype)))

    def project(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        z = matrix(self.random, n, k, dtype)
        return (z, self.center(z), labels(self.random, n, k), *self.limits())

    def step(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        q = matrix(self.random, n, k, dtype)
        g = self.random.choice((q, *(matrix(self.random, n, k, dtype) for _ in range(3))))
        alpha = self.random.choice((self.random.random(), self.random.choice(WORST)))
        return (q, g, self.center(q), labels(self.random, n, k), alpha, *self.limits())

    def out(self, arguments: tuple[Any, ...]) -> Tensor:
        """New memory, that of an argument, or a part of it."""
        first = arguments[0]
        n, k = first.shape
        choice = self.random.choice(("new", "new", "laid out", "argument", "overlapping"))
        given = [x for x in arguments if isinstance(x, Tensor) and x.dtype == first.dtype]
        if choice == "argument":
            return self.random.choice(given)
        if choice == "overlapping" and n > 1 and first.is_contiguous():
            return first.flatten()[: (n - 1) * k].view(n - 1, k) if k else first
        new = torch.full((n, k), math.nan, dtype=first.dtype)
        return laid_out(self.random, new) if choice == "laid out" else new

    def project_out(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        arguments = self.project(n, k, dtype)
        return (*arguments, self.out(arguments))

    def step_out(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        arguments = self.step(n, k, dtype)
        return (*arguments, self.out(arguments))

    def move(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        p = matrix(self.random, n, k, dtype)
        target = self.random.choice((p, matrix(self.random, n, k, dtype)))
        epsilon, norm, _, _ = self.limits()
        return p, target, epsilon, norm, self.random.choice(STYLES)

    def key(self) -> Tensor:
        words = [
            self.random.choice((0, 2**31, 2**32 - 1, self.random.getrandbits(32))) for _ in "abcd"
        ]
        return torch.tensor(words)

    def flip(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        rate = self.random.choice((0.0, 0.5, 1.0, self.random.choice(WORST)))
        style = self.random.choice(("swap", "project"))
        p = matrix(self.random, n, k, dtype)
        return p, labels(self.random, n, k), rate, self.key(), style

    def row_bits(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        random = self.random
        draw = random.choice((0, 1, 2**32 - 1, 2**63 - 1, -(2**63)))
        grid = random.choice((0.0, 0.1, 1.0, random.choice(WORST)))
        return (
            matrix(random, n, k, dtype),
            self.key(),
            draw,
            grid,
            random.choice((0, 1, 3, 4, 5, 50)),
        )

    def quantize(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        random, k = self.random, min(k, 40)
        words = random.choice((0, 1, 2, 17))
        codewords = matrix(random, k * words, k, torch.float32).reshape(k, words, k)
        offsets = random.choice((None, torch.tensor(random.choice(WORST)).float().expand(k, words)))
        return matrix(random, n, k, dtype), codewords, offsets

    def quantize_out(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        arguments = self.quantize(n, k, dtype)
        return (*arguments, self.out(arguments[:1]))

    def project_vjp(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        n, k = min(n, 5), min(k, 20)
        return (matrix(self.random, n, k, dtype), *self.project(n, k, dtype))

    def network(self, k: int) -> tuple[Tensor, int, int]:
        """Small networks, some of whose numbers may be strange."""
        random = self.random
        members, width = random.choice((1, 2, 3)), random.choice((32, 64))
        network = packed(k, members=members, width=width, seed=random.randrange(3)).packed
        if random.random() < 0.3:
            network = network.clone()
            strange = torch.tensor(random.choice(STRANGE), dtype=torch.float64)
            network[random.randrange(len(network))] = strange.float()
        return network, members, width

    def recover(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        k = min(k, 70)
        outputs = self.random.choice((1, 5, 31, 32, 32, 0, 33))
        return matrix(self.random, n, k, dtype), *self.network(k), outputs

    def goal(self, n: int) -> Tensor:
        return matrix(self.random, n, self.random.choice((1, 5, 32)), torch.float32)

    def pull(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        k = min(k, 70)
        smooth = self.random.random() < 0.5
        return matrix(self.random, n, k, dtype), self.goal(n), *self.network(k), smooth

    def perturb(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        random, n, k = self.random, min(n, 64), min(k, 70)
        p = matrix(random, n, k, dtype)
        # Shortened steps leave a row where it is, which need not be where its center is.
        near = random.choice((None, matrix(random, n, 1, torch.float32)[:, 0]))
        center = self.center(p) if near is None else None
        alpha = random.choice((random.random(), random.choice(WORST)))
        given = p, self.goal(n), *self.network(k), center, near
        return *given, random.choice((1, 2, 3)), alpha, *self.limits(), random.random() < 0.5

    def perturb_out(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        arguments = self.perturb(n, k, dtype)
        return (*arguments, self.out(arguments[:1]))

    def pair(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        q = matrix(self.random, n, k, dtype)
        return q, self.random.choice((q, matrix(self.random, n, k, dtype)))

    def lose_label(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        label = torch.tensor([self.random.randrange(k) for _ in range(n)], dtype=torch.int64)
        first = self.random.randrange(5)
        return *self.pair(n, k, dtype), label, first, first + self.random.randrange(-1, 6)

    def soften(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        temperature = self.random.choice((1.0, 2.0, 0.1, self.random.choice(WORST)))
        return matrix(self.random, n, k, dtype), temperature, self.random.choice(WORST)

    def three(self) -> list[float]:
        return [self.random.choice((0.0, 0.1, math.inf, *WORST)) for _ in range(3)]

    def keyed_step(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        random = self.random
        seen = random.choice((None, matrix(random, n, random.choice((1, 9)), torch.float32)))
        grid = random.choice((0.1, 1.0, random.choice(WORST)))
        epsilon, norm, _, _ = self.limits()
        alpha = random.choice((random.random(), random.choice(WORST)))
        given = seen, self.key(), grid, alpha, 0.2 if epsilon is None else epsilon, norm
        return matrix(random, n, k, dtype), *given

    def approach(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        _, vectors, *_ = self.in_bank(1, k)
        n, k, most = min(n, 64), vectors.shape[1], len(vectors)
        places = [self.random.choice((-1, self.random.randrange(most))) for _ in range(n)]
        if n and self.random.random() < 0.1:
            places[0] = self.random.choice((most, 2**63 - 1, -(2**63)))
        place = torch.tensor(places, dtype=torch.int64)
        shares = torch.tensor([self.random.choice(NUMBERS) for _ in range(n)]).float()
        return matrix(self.random, n, k, dtype), vectors, place, shares

    def in_bank(self, n: int, k: int) -> tuple[Any, ...]:
        """Rows and a bank whose last label has no vectors."""
        random, k = self.random, min(k, 40)
        vectors, starts, counts, *_ = bank_of(k, random.choice((1, 4, 9)))
        same, noise = random.choice((0.0, 1e-7, 0.5, random.choice(WORST))), random.choice(NUMBERS)
        return matrix(random, min(n, 64), k, torch.float32), vectors, starts, counts, same, noise

    def keyed(self, n: int, columns: int) -> Tensor:
        """Keyed words, int64 [n, columns]."""
        words = torch.tensor([self.random.getrandbits(32) for _ in range(n * columns)])
        return words.to(torch.int64).view(n, columns)

    def pick_each(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        return *self.in_bank(n, k), self.keyed(min(n, 64), self.random.choice((0, 1, 3)))

    def nearest(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        slots, subsets = self.random.choice((1, 3, 9, 40)), self.random.choice((1, 2, 3, 40))
        return *self.in_bank(n, k), self.keyed(min(n, 64), 1)[:, 0], slots, subsets

    def choose_move(self, n: int, k: int, dtype: torch.dtype) -> tuple[Any, ...]:
        random, n, (rows, vectors, *bank) = self.random, min(n, 64), self.in_bank(n, k)
        components, slots = random.choice((1, 5, 31)), random.choice((1, 9, 33, 64))
        predicted = matrix(random, n, 2 * components + 1 + random.choice((0, 3)), torch.float32)
        recovered = matrix(random, len(vectors), components + 2, torch.float32)
        words = self.keyed(n, random.choice((1, 1, 3)) * -(-slots // 32))
        epsilon, norm, weight, _ = self.limits()
        given = predicted, recovered, words, slots, 0.2 if epsilon is None else epsilon
        return rows, vectors, *bank, *given, norm, weight, random.random() < 0.5

    def spoilt(self, name: str, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        """With one tensor of another shape, dtype or number of dimensions."""
        # A bank's vectors, the second argument, are taken to be as many as its counts say.
        trusted = 1 if name in IN_BANKS else None
        tensors = [i for i, x in enumerate(arguments) if isinstance(x, Tensor) and i != trusted]
        at = self.random.choice(tensors)
        x = arguments[at]
        change = self.random.choice(
            (lambda x: x[:-1], lambda x: x[None], lambda x: x.int(), lambda x: x.half(), torch.cat)
        )
        wrong = torch.cat([x, x]) if change is torch.cat else change(x)
        return (*arguments[:at], wrong, *arguments[at + 1 :])

    def call(self) -> None:
        """One call by every instruction set, or on the meta device."""
        random = self.random
        k = random.choice(CLASSES)
        n = min(random.choice(ROWS), MOST // k)
        torch.set_num_threads(random.choice(THREADS))
        if random.random() < 0.03:
            # Enough for eight threads.
            n = 8 * 65536 // k + random.randrange(20)
        name = random.choice(list(self.made))
        arguments = self.kinds()[name](n, k, random.choice(DTYPES))
        if random.random() < 0.05:
            arguments = self.spoilt(name, arguments)
        self.made[name] += 1
        if random.random() < 0.03:
            arguments = tuple(x.to("meta") if isinstance(x, Tensor) else x for x in arguments)
        counts = set()
        for instruction_set in cpu.instruction_sets():
            # What is written over must be there for the next.
            given = tuple(arguments[:-1]) + (
                (arguments[-1].clone(),)
                if name.endswith("_out") and random.random() < 0.5
                else arguments[-1:]
            )
            alone = given[-1] is not arguments[-1] or not name.endswith("_out")
            with cpu.using(instruction_set):
                try:
                    results = getattr(OPS, name)(*given)
                except (ValueError, RuntimeError, TypeError, LookupError):
                    self.refused += 1
                    return
            counts.add(self.judge(name, given, results) if alone else None)
            if not alone:
                return
        assert len(counts) == 1, (name, counts)

    def judge(self, name: str, given: tuple[Any, ...], results: Any) -> int | None:
        """The count of invalid rows, if the rest may be served."""
        results = results if isinstance(results, tuple) else (results,)
        if results[-1].is_meta:
            return None
        if name == "row_bits":
            assert (
                results[0].numel() == 0
                or 0 <= int(results[0].min()) <= int(results[0].max()) < 2**32
            )
            return None
        if name == "project_vjp":
            assert results[0].shape == given[0].shape
            return None
        if name in JUDGED:
            JUDGED[name](results, *given)
            return int(results[-1]) if name in ("recover", "pull") else None
        q = given[-1] if name.endswith("_out") else results[0]
        status, (n, k) = int(results[-1]), q.shape
        assert 0 <= status <= n, (name, status, n)
        if any(isinstance(x, float) and not x >= 0 for x in given) or margin_of(name, given) > 1:
            # The edge refuses such numbers; here they must do no harm.
            return status
        exact = q.double()
        assert bool((exact >= 0).all()), (name, "not finite, or negative")
        slack = max(1e-5, k * ULP[q.dtype])
        if name in ("perturb", "perturb_out") and given[6] is not None:
            # A step of share 0 leaves a row as it came.
            slack = max(slack, 1e-2 if ULP[q.dtype] > 1e-4 else 1.1e-4)
        assert bool(((exact.sum(1) - 1).abs() <= slack).all()), (name, "sum", slack)
        return status


def main() -> None:
    """Calls until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    caller, end = Caller(options.seed), time.monotonic() + options.seconds
    while time.monotonic() < end:
        caller.call()
    print(f"{sum(caller.made.values())} calls, {caller.refused} refused: {caller.made}")


if __name__ == "__main__":
    main()
