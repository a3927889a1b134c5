"""The operators on small networks, on banks and on rows of defenses: the reference's answers, row by row."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import operands
import pytest
import torch
from later import fewer, unless
from operands import COMPONENTS, numbers, recovered_of, words_of
from table import KEY, codewords_of, rows_of
from torch import Tensor

from mipoison import cpu, reference
from mipoison.defenses.bank import Bank
from mipoison.ops.banks import Grouped
from mipoison.random import uniforms
from mipoison.reference.bank import away, nearness, others
from mipoison.reference.choose_move import SHARES, penalty, weigh_moves
from mipoison.reference.clean import SMALLEST
from mipoison.reference.network import Layers

OPS = torch.ops.mipoison
DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
CLASSES = (2, 7, 10, 16, 17, 100)
NORMS = ("l1", "l2", "linf")


@pytest.fixture(params=cpu.instruction_sets(), autouse=True)
def instruction_set(request: pytest.FixtureRequest) -> Iterator[str]:
    """Each of this machine's."""
    with cpu.using(request.param):
        yield request.param


def rows(k: int, dtype: torch.dtype = torch.float32) -> Tensor:
    """196 probability vectors of all distributions."""
    return rows_of(k, 28).to(dtype)


def sharper(p: Tensor) -> Tensor:
    """Rows of the same labels that lead by more."""
    hot = torch.nn.functional.one_hot(reference.label_of(p), p.shape[1])
    return ((p + hot) / 2).to(p.dtype)


def spoilt(p: Tensor) -> tuple[Tensor, Tensor]:
    """The rows with every sixth one broken, in one way after the other; and which are, bool [N]."""
    p, broken = p.clone(), torch.arange(len(p)) % 6 == 1
    for turn, row in enumerate(broken.nonzero().flatten().tolist()):
        value = (math.nan, math.inf, -math.inf, -0.5, 1.5, 60000.0)[turn % 6]
        p[row, turn % p.shape[1]] = value
    p[-1], broken[-1] = 0.0, True
    return p, broken


def equal_bits(a: Tensor, b: Tensor) -> bool:
    """Whether two results have the same entries; NaN is equal to itself, and 0 to -0."""
    return (
        a.shape == b.shape and a.dtype == b.dtype and bool(((a == b) | (a != a) & (b != b)).all())
    )


# Rows.


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", CLASSES)
def test_clean(k: int, dtype: torch.dtype) -> None:
    p, broken = spoilt(rows(k, dtype))
    # Entries that float32 and the 16-bit types cannot hold as normal numbers.
    for row, small in ((6, 1e-40), (8, 6e-8), (10, 1.1754943e-38), (12, 1.17549e-38)):
        least, label = p[row].argmin(), p[row].argmax()
        p[row, label] += p[row, least]
        p[row, least] = small
    q, status = OPS.clean(p)
    expected, count = reference.clean(p)
    assert torch.equal(q, expected) and q.dtype == torch.float32
    assert int(status) == int(count) == int(broken.sum())
    uniform = torch.full((k,), 1 / k)
    assert bool(((q[broken] - uniform).abs() <= 2**-23).all())
    assert bool((reference.label_of(q[broken]) == 0).all())
    # Every row has a strict label, the row's where it is valid, and no subnormal entry.
    valid = ~broken
    assert torch.equal(q.argmax(1)[valid], reference.label_of(p)[valid])
    assert bool((q.topk(2, 1).values.diff(dim=1) < 0).all())
    assert not bool(((q > 0) & (q < SMALLEST)).any())
    assert bool(((q.double().sum(1) - 1).abs() < 1e-6).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", CLASSES)
def test_label_of(k: int, dtype: torch.dtype) -> None:
    p = rows(k, dtype)
    # Equal entries and negative ones.
    for x in (p, -p, torch.zeros_like(p), (4 * p).round()):
        assert torch.equal(OPS.label_of(x), reference.label_of(x))
    broken, _ = spoilt(p)
    label = OPS.label_of(broken)
    assert bool(((label >= 0) & (label < k)).all())


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", CLASSES)
def test_lead_and_distance(k: int, dtype: torch.dtype) -> None:
    p = rows(k, dtype)
    for q in (p, p.roll(1, 0), sharper(p)):
        assert torch.equal(OPS.lead(q, p), reference.lead(q, p))
        for norm in NORMS:
            found, expected = OPS.distance(q, p, norm), reference.distance(q, p, norm)
            assert found.dtype == torch.float64
            assert torch.allclose(found, expected, rtol=1e-13, atol=1e-16), norm


def close_labels(k: int, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Rows whose label leads by less than 1e-2, others of the same labels whose label does too, and the labels."""
    p = rows_of(k, 28)
    label = reference.label_of(p)
    lead = 10 ** (-2 - 6 * torch.rand(2, len(p), generator=torch.Generator().manual_seed(k)))
    made = []
    for ahead in lead.double():
        second = p.scatter(1, label[:, None], -1.0).argmax(1, keepdim=True)
        share = (p.gather(1, label[:, None]) + p.gather(1, second)) / 2
        x = p.scatter(1, label[:, None], share + ahead[:, None] / 2)
        made.append(x.scatter(1, second, share - ahead[:, None] / 2).to(dtype))
    q, given = made
    # In a few rows the dtype makes a tie of them.
    kept = (reference.label_of(given) == label) & (reference.label_of(q) == label)
    return q[kept], given[kept], label[kept]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", CLASSES)
def test_lose_label(k: int, dtype: torch.dtype) -> None:
    q, given, label = close_labels(k, dtype)
    assert len(q) > 40
    lost = []
    for first, last in ((1, 0), (1, 6), (2, 3), (4, 8)):
        found = OPS.lose_label(q, given, label, first, last)
        assert found.dtype == torch.bool
        assert torch.equal(found, reference.lose_label(q, given, label, first, last))
        lost.append(int(found.sum()))
    # The casts lose some, and roundings more. (Of rows that are of bfloat16 already, the casts lose none.)
    assert lost[0] <= lost[1] < len(q)
    assert dtype == torch.bfloat16 or lost[0] > 0
    assert dtype in (torch.bfloat16, torch.float16) or lost[0] < lost[1]
    assert not bool(OPS.lose_label(given, given, label, 1, 8).any())


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_stray(dtype: torch.dtype, norm: str) -> None:
    p = rows(10, dtype)
    # Those that stay, those that go far, and those that lead by more than before.
    q = torch.stack((p, p.roll(3, 0), sharper(p)))[torch.arange(196) % 3, torch.arange(196)]
    q[5, 2] = math.nan
    length, lead = reference.distance(q, p, norm), reference.lead(q, p)
    cases = (
        (0.0, 0.5, -math.inf),
        (0.1, math.inf, -math.inf),
        (0.0, math.inf, 0.1),
        (0.1, 0.5, 0.1),
    )
    for least, most, ahead in cases:
        found, count = OPS.stray(q, p, norm, least, most, ahead)
        expected, number = reference.stray(q, p, norm, least, most, ahead)
        assert torch.equal(found, expected) and int(count) == int(number) == int(found.sum())
        within = (least <= length) & (length <= most) & (lead >= ahead)
        rest = torch.arange(196) != 5
        assert torch.equal(found[rest], ~within[rest]) and bool(found[5])
        assert 20 < int(count) < 190


def keyed_steps(p: Tensor, seen: Tensor | None, *how: Any) -> tuple[Tensor, Tensor]:
    """The operator's answers and the reference's."""
    key = torch.tensor(KEY)
    return OPS.keyed_step(p, seen, key, *how), reference.keyed_step(p, seen, key, *how)


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("k", unless((17,), (*CLASSES, 321)))
def test_keyed_step(k: int, norm: str) -> None:
    for dtype in fewer((torch.float32, torch.float16), DTYPES):
        p = rows(k, dtype)
        close = {"rtol": 0, "atol": 2e-6 if dtype.itemsize > 2 else 2.0**-7}
        found, expected = keyed_steps(p, None, 0.1, 0.4, 0.2, norm)
        assert found.dtype == dtype and torch.allclose(found.double(), expected.double(), **close)
        # Rows of one cell go one way, whatever else is seen in their place.
        seen = torch.ones(196, 3)
        found, expected = keyed_steps(p, seen, 0.1, 0.4, 0.2, norm)
        assert torch.allclose(found.double(), expected.double(), **close)


def test_keyed_step_of_a_line() -> None:
    """Rows of many classes, which lie in memory one after the other; l2 is the ball whose reference is soon done."""
    test_keyed_step(321, "l2")


def test_keyed_step_goes_back_where_that_is_farther() -> None:
    """Of equal rows at a vertex, whose directions point in or out, none hardly moves; inside none turns."""
    for row, turned in (((1.0, 0.0, 0.0), True), ((0.4, 0.3, 0.3), False)):
        p = torch.tensor([row]).repeat(64, 1)
        seen = torch.arange(64.0)[:, None]
        words = reference.row_bits(seen, torch.tensor(KEY), 0, 1.0, 3)
        way = (2 * uniforms(words) - 1).float()
        there = OPS.step(p, way, p, None, 0.02, 0.01, "l1", 0.0, False)[0]
        back = OPS.step(p, -way, p, None, 0.02, 0.01, "l1", 0.0, False)[0]
        found = OPS.keyed_step(p, seen, torch.tensor(KEY), 1.0, 0.02, 0.01, "l1")
        turns = (found != there).any(1)
        assert bool(turns.any()) == turned
        assert torch.equal(found[turns], back[turns])
        gone, returned = ((x - p).abs().sum(1) for x in (there, back))
        assert torch.equal(turns, (gone < 0.005) & (returned > 1.1 * gone))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("k", CLASSES)
def test_approach(k: int, dtype: torch.dtype) -> None:
    p = rows(k, dtype)
    arguments = list(operands.CASES["approach"][1](p, p))
    # A vector of another label: rows that would change theirs stay.
    arguments[2][::5] = torch.arange(40) % len(arguments[1])
    found, nowhere = OPS.approach(*arguments)
    expected, count = reference.approach(*arguments)
    assert torch.equal(found, expected) and found.dtype == dtype
    assert int(nowhere) == int(count) == int((arguments[2] < 0).sum()) > 0
    assert torch.equal(reference.label_of(found), reference.label_of(p))
    stays = (found == p).all(1)
    assert bool(stays[arguments[2] < 0].all()) and not bool(stays.all())
    with pytest.raises(ValueError, match="among the vectors"):
        OPS.approach(
            p, arguments[1], torch.full_like(arguments[2], len(arguments[1])), arguments[3]
        )


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.0, 50.0])
@pytest.mark.parametrize("k", CLASSES)
def test_soften(k: int, temperature: float) -> None:
    for dtype in DTYPES:
        p = rows(k, dtype)
        for floor in (1e-30, 1e-3):
            # (The two compute logarithms and exponentials in float64 by different libraries.)
            found, expected = (
                OPS.soften(p, temperature, floor),
                reference.soften(p, temperature, floor),
            )
            assert found.dtype == torch.float32
            assert torch.allclose(found, expected, rtol=2e-7, atol=1e-45)
    exact = p.double().clamp_min(1e-3) ** (1 / temperature)
    assert torch.allclose(found.double(), exact / exact.sum(1, keepdim=True), rtol=1e-6)


# Networks.


@pytest.mark.parametrize("dtype", unless((torch.float32, torch.float16), DTYPES))
@pytest.mark.parametrize("members", [1, 3])
@pytest.mark.parametrize("k", CLASSES)
def test_recover_and_pull(k: int, members: int, dtype: torch.dtype) -> None:
    p, goal = rows(k, dtype), numbers(196, 40)
    network, *sizes, outputs = operands.packed(k, members=members, width=64, outputs=40)
    assert outputs == 64
    for some in (1, 31, 40, 64):
        found, status = OPS.recover(p, network, *sizes, some)
        expected, valid = reference.recover(p, network, *sizes, some)
        assert int(status) == 0 and bool(valid.all())
        assert torch.allclose(found, expected, rtol=1e-5, atol=2e-6)
    for smooth in (False, True):
        gradient, distance, status = OPS.pull(p, goal, network, *sizes, smooth)
        exact, expected, valid = reference.pull(p, goal, network, *sizes, smooth)
        assert int(status) == 0 and bool(valid.all())
        assert torch.allclose(distance, expected, rtol=1e-5, atol=1e-6)
        # The logarithm's derivative, up to 1e7, enlarges what was rounded before.
        x = p.float()
        inverse = x / (x.square() + 1e-6) if smooth else 1 / x.clamp_min(1e-7)
        allowed = 1e-5 * exact.abs().amax(1, keepdim=True) + 1e-6 * (1 + inverse)
        off = ((gradient - exact).abs() > allowed).any(1)
        # A unit whose activity is zero to rounding may be on in one and off in the other.
        assert int(off.sum()) <= (0 if smooth else 2)


@pytest.mark.parametrize("k", CLASSES)
def test_pull_is_the_gradient(k: int) -> None:
    """By differences in float64, at rows without small entries."""
    p = (rows_of(k, 2) + 0.1) / (1 + 0.1 * k)
    network, members, width, _ = operands.packed(k)
    goal = numbers(len(p), COMPONENTS)

    def half_squared(q: Tensor) -> Tensor:
        layers = reference_layers(network.double(), k, members, width)
        return (layers(q)[:, :COMPONENTS] - goal).square().sum() / 2

    q = p.clone().requires_grad_()
    (exact,) = torch.autograd.grad(half_squared(q), q)
    gradient, *_ = OPS.pull(p, goal, network, members, width, False)
    assert float(exact.abs().max()) > 0.01
    assert torch.allclose(gradient.double(), exact, rtol=1e-4, atol=1e-5)


def reference_layers(network: Tensor, k: int, members: int, width: int) -> Any:
    """The networks in plain torch, from their numbers in turn."""
    f = -(-2 * k // 32) * 32
    sizes = ((f,), (f,), (f, width), (1, width), (width, width), (1, width), (width, 32), (1, 32))
    shapes = [size if i < 2 else (members, *size) for i, size in enumerate(sizes)]
    counts = [math.prod(shape) for shape in shapes]
    parts = network[: sum(counts)].split(counts)
    mean, inverse, *state = (x.view(shape) for x, shape in zip(parts, shapes, strict=True))

    def forward(q: Tensor) -> Tensor:
        x = torch.cat((q, q.log(), q.new_zeros(len(q), f - 2 * k)), 1)
        h = ((x - mean) * inverse).expand(members, -1, -1)
        for weight, bias in zip(state[::2], state[1::2], strict=True):
            h = torch.bmm(h, weight) + bias
            h = h.relu() if weight is not state[-2] else h
        return h.mean(0)

    return forward


@pytest.mark.parametrize("case", ["recover", "pull", "perturb"])
def test_networks_may_begin_anywhere_in_memory(case: str) -> None:
    p = rows(17)[:50]
    name, given = operands.CASES[case]
    arguments = given(p, p)
    expected = getattr(OPS, name)(*arguments)
    memory = torch.cat((torch.zeros(1), operands.packed(17).packed))[1:]
    place = next(i for i, x in enumerate(arguments) if x is operands.packed(17).packed)
    found = getattr(OPS, name)(*arguments[:place], memory, *arguments[place + 1 :])
    assert all(torch.equal(x, y) for x, y in zip(found, expected, strict=True))


def test_rows_at_which_networks_overflow_are_counted() -> None:
    p = rows(10)
    network, members, width, _ = operands.packed(10)
    layers = Layers.unpacked(network, 10, members, width)
    for name, value in (
        *(("bias2", math.nan), ("bias2", -math.inf), ("bias0", math.inf)),
        # In a hidden layer, where NaN must not pass for an idle unit.
        *(("weight0", math.nan), ("mean", math.nan)),
    ):
        numbers_of = getattr(layers, name).clone()
        numbers_of.view(-1)[numbers_of.numel() // 2 if numbers_of.ndim > 1 else 0] = value
        broken = layers._replace(**{name: numbers_of}).packed()
        for operator, given in (
            ("recover", (32,)),
            ("pull", (False,)),
            ("perturb", (None, None, 2, 0.1, None, "l1", 0.0, False, False)),
        ):
            goal = () if operator == "recover" else (numbers(196, COMPONENTS),)
            *found, status = getattr(OPS, operator)(p, *goal, broken, members, width, *given)
            assert int(status) == len(p), (name, operator)
            lost = operator == "recover"
            assert all(bool((x.isnan() if lost else x.isfinite()).all()) for x in found)
    assert torch.equal(found[0].argmax(1), p.argmax(1)) and bool((found[0].amax(1) == 1).all())


# Banks.


class Asked(NamedTuple):
    """Rows [N, K], a bank, and at most how many of its vectors a row is compared with."""

    p: Tensor
    bank: Grouped
    slots: int


SAME, NOISE = 1e-7, 5e-5


def in_bank(vectors: Tensor) -> Grouped:
    return Bank(vectors).grouped


def banks(k: int) -> dict[str, Asked]:
    """Banks of which some labels have no vectors, or more than slots, or equal ones; and rows that are in them."""
    p, words = rows(k), codewords_of(k, 9)
    few, one = words[:-1, :3].flatten(0, 1), words[:, 0]
    half = words[: -(-k // 2)].flatten(0, 1)
    some = torch.arange(196) % len(half)
    # A vector's rounding, less and more than what counts as the row itself, and the vector.
    share = torch.tensor((0.0, 1e-8, 1e-5, 4e-5))[torch.arange(196) % 4, None]
    near = (1 - share) * half[some] + share / k
    return {
        "few": Asked(p, in_bank(few), 5),
        "more than slots": Asked(p, in_bank(half), 5),
        "as many as slots": Asked(p, in_bank(half), 9),
        "rows of the bank": Asked(near, in_bank(half), 9),
        "only the row": Asked(one[torch.arange(196) % k], in_bank(one), 4),
        "equal vectors": Asked(p, in_bank(one.repeat_interleave(6, 0)), 6),
        "the row, often": Asked(one[torch.arange(196) % k], in_bank(one.repeat(6, 1)), 8),
    }


BANKS = tuple(banks(2))
# Those in which no label has another vector than the row.
LONELY = ("only the row", "the row, often")


@pytest.mark.parametrize("kind", BANKS)
@pytest.mark.parametrize("k", CLASSES)
def test_pick_each(k: int, kind: str) -> None:
    p, bank, _ = banks(k)[kind]
    words = words_of(196, 5)
    words[:, 0], words[:, 1] = 0, 2**32 - 1
    vectors, place = OPS.pick_each(p, *bank, words)
    expected, same = reference.pick_each(p, *bank, words)
    assert torch.equal(place, same) and torch.equal(vectors, expected)
    # What is picked is the bank's, or the fallback, has the row's label, and is not the row.
    label = reference.label_of(p)
    fallback, number = away(p, label)
    inside = place < len(bank.vectors)
    assert torch.equal(vectors[inside], bank.vectors[place[inside]])
    aside = fallback[:, None].expand_as(vectors)
    assert torch.allclose(vectors[~inside], aside[~inside], rtol=0, atol=1e-7)
    assert torch.equal(
        place[~inside], (len(bank.vectors) + number)[:, None].expand_as(place)[~inside]
    )
    moved = (vectors - p[:, None]).abs().sum(2)
    assert bool((moved > nearness(p, label, SAME, NOISE)[:, None]).all())
    assert torch.equal(
        reference.label_of(vectors.flatten(0, 1)), label.repeat_interleave(words.shape[1])
    )
    if kind in LONELY:
        assert not bool(inside.any())
    else:
        assert bool(inside.any()) and not bool(inside[bank.counts[label] == 0].any())


@pytest.mark.parametrize("kind", BANKS)
@pytest.mark.parametrize("k", CLASSES)
def test_solitary(k: int, kind: str) -> None:
    """A row whose label has no vector beyond the distance at which one counts as the row itself."""
    p, bank, _ = banks(k)[kind]
    spread = Bank(bank.vectors).spread
    found = OPS.solitary(p, *bank, spread)
    assert torch.equal(found, reference.solitary(p, *bank, spread))
    label = reference.label_of(p)
    distance = (p[:, None] - bank.vectors).abs().sum(2)
    mine = reference.label_of(bank.vectors) == label[:, None]
    other = mine & (distance > nearness(p, label, SAME, NOISE)[:, None])
    # Vectors may be near the row and twice as far from the first one: such a row counts as having another.
    assert not bool((found & other.any(1)).any())
    assert bool(found[~mine.any(1)].all())
    assert bool(found.all()) == (kind in LONELY)


@pytest.mark.parametrize("dtype", unless((torch.float32, torch.float16), DTYPES))
@pytest.mark.parametrize("k", CLASSES)
def test_distances(k: int, dtype: torch.dtype) -> None:
    p = rows(k, dtype)
    answers, goal = torch.stack((p, p.roll(1, 0), p.flip(0)), 1), numbers(196, 40)
    network, *sizes, _ = operands.packed(k, members=2, width=64, outputs=40)
    found = OPS.distances(answers, goal, network, *sizes)
    expected = reference.distances(answers, goal, network, *sizes)
    assert found.shape == (196, 3) and torch.allclose(found, expected, rtol=1e-5, atol=1e-5)
    recovered = OPS.recover(answers.flatten(0, 1), network, *sizes, 40)[0].view(196, 3, 40)
    assert torch.allclose(found, (recovered - goal[:, None]).norm(dim=2), rtol=1e-5)
    # An answer does not depend on the others of its row, nor on the rows beside it.
    one = OPS.distances(answers[:, 1:2], goal, network, *sizes)
    assert torch.equal(one[:, 0], found[:, 1])
    assert torch.equal(OPS.distances(answers[7:8], goal[7:8], network, *sizes)[0], found[7])


@pytest.mark.parametrize("kind", BANKS)
@pytest.mark.parametrize("k", CLASSES)
def test_nearest(k: int, kind: str) -> None:
    p, bank, slots = banks(k)[kind]
    word, subsets = words_of(196, 1)[:, 0], 4
    found = OPS.nearest(p, *bank, word, slots, subsets)
    expected = reference.nearest(p, *bank, word, slots, subsets)
    assert found.shape == expected.shape == (196, subsets, k)
    # Of vectors that are equally near to rounding either may be found.
    near, exact = ((x - p[:, None]).abs().sum(2) for x in (found, expected))
    assert bool(((near - exact).abs() <= 1e-6).all())
    assert float((found != expected).any(2).float().mean()) < 0.02
    # All vectors but the row itself, one by one: the first subset keeps each.
    least = others(p, *bank, slots)[1].amin(1)
    there = least.isfinite()
    assert torch.allclose(near[:, 0][there], least[there], rtol=1e-6, atol=1e-6)
    spare = OPS.pick_each(p, *bank, word[:, None])[0][:, 0]
    assert torch.equal(found[:, 0][~there], spare[~there])
    # Each subset contains the next, up to empty ones.
    picked = (found == spare[:, None]).all(2)
    assert bool(((near.diff(dim=1) >= -1e-6) | picked[:, 1:]).all())


@pytest.mark.parametrize("root", [False, True])
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("kind", BANKS)
@pytest.mark.parametrize("k", unless((2, 17), CLASSES))
def test_choose_move(k: int, kind: str, norm: str, root: bool) -> None:
    p, bank, slots = banks(k)[kind]
    predicted = numbers(196, 2 * COMPONENTS + 1 + 3)
    given = predicted, recovered_of(len(bank.vectors)), words_of(196, 1), slots
    seen = set[float]()
    for epsilon, weight in ((0.3, 0.5), (2.0, 0.0), (0.01, 2.0)):
        place, share = OPS.choose_move(p, *bank, *given, epsilon, norm, weight, root)
        same, part = reference.choose_move(p, *bank, *given, epsilon, norm, weight, root)
        assert place.dtype == torch.int64 and share.dtype == torch.float32
        assert torch.equal(place < 0, same < 0)
        moves = weigh_moves(p, *bank, *given, epsilon, norm, root)
        assert torch.equal(place < 0, moves.solitary.squeeze(1))
        assert bool((share[place < 0] == 0).all()) and torch.equal(share[same < 0], part[same < 0])
        # Of moves that are worth the same to rounding either may be chosen.
        worth = moves.score - weight * penalty(moves.spent)
        ours, theirs = (worth_of(moves.place, worth, *x) for x in ((place, share), (same, part)))
        served = place >= 0
        scale = 1 + worth[:, 0].abs()
        assert bool(((ours - theirs).abs() <= 1e-5 * scale)[served].all())
        assert float(((place != same) | (share != part)).float().mean()) < 0.02
        seen |= set(share.tolist())
    assert kind in LONELY or {0.0, 1.0} <= seen


@pytest.mark.parametrize("slots", [5, 32, 40, 64])
def test_choose_move_leaves_vectors_whose_bits_are_all_one(slots: int) -> None:
    p, bank, _ = banks(2)["more than slots"]
    bank = in_bank(bank.vectors[:, :2].repeat(8, 1))
    given = numbers(196, 2 * COMPONENTS + 1), recovered_of(len(bank.vectors))
    columns = -(-slots // 32)
    words = words_of(196, 3 * columns)
    rest = slots, 0.3, "l1", 0.5, False
    halved = words[:, :columns] & words[:, columns : 2 * columns] & words[:, 2 * columns :]
    found = OPS.choose_move(p, *bank, *given, words, *rest)
    for operator in (OPS.choose_move, reference.choose_move):
        once = operator(p, *bank, *given, halved, *rest)
        assert torch.equal(once[0], operator(p, *bank, *given, words, *rest)[0])
        assert torch.equal(once[1], operator(p, *bank, *given, words, *rest)[1])
    assert torch.equal(found[0], once[0]) and torch.equal(found[1], once[1])
    full = OPS.choose_move(p, *bank, *given, torch.full_like(words, 2**32 - 1), *rest)
    assert not torch.equal(found[0], full[0])


def worth_of(places: Tensor, worth: Tensor, place: Tensor, share: Tensor) -> Tensor:
    """What moves toward these vectors by these shares are worth, [N]; places may name a vector in several slots."""
    slots = places.shape[1]
    turn = torch.tensor([SHARES.index(x) if x > 0 else 0 for x in share.tolist()])
    toward = worth[:, 1:].view(len(worth), len(SHARES), slots)[torch.arange(len(worth)), turn]
    best = toward.masked_fill(places != place[:, None], -math.inf).amax(1)
    return torch.where(share > 0, best, worth[:, 0])


@pytest.mark.parametrize("root", [False, True])
def test_choose_move_of_predictions_that_overflow(root: bool) -> None:
    p, bank, slots = banks(10)["more than slots"]
    usual = numbers(196, 2 * COMPONENTS + 1)
    broken = torch.arange(196) % 4 == 1
    recovered, words = recovered_of(len(bank.vectors)), words_of(196, 1)
    for value in (math.nan, math.inf, -math.inf, 1e30):
        predicted = usual.clone()
        predicted[broken, 1] = value
        place, share = OPS.choose_move(
            p, *bank, predicted, recovered, words, slots, 0.3, "l1", 0.5, root
        )
        before = OPS.choose_move(p, *bank, usual, recovered, words, slots, 0.3, "l1", 0.5, root)
        assert bool((place[broken] == -1).all()) and bool(share.isfinite().all())
        for ours, theirs in zip((place, share), before, strict=True):
            assert torch.equal(ours[~broken], theirs[~broken])
    assert bool((before[0][broken] >= 0).any())


# Every operator.


def by_rows(case: str, p: Tensor) -> tuple[Any, tuple[Any, ...]]:
    name, given = operands.CASES[case]
    return getattr(OPS, name), given(p, sharper(p))


def row_results(results: Any, n: int) -> list[Tensor]:
    """Those with something for each row."""
    return [x for x in operands.several(results) if x.ndim > 0 and x.shape[0] == n]


@pytest.mark.parametrize("k", unless((17,), CLASSES))
@pytest.mark.parametrize("case", operands.CASES)
def test_batch_invariance(case: str, k: int) -> None:
    n = 53
    operator, arguments = by_rows(case, rows(k)[:n])
    whole = row_results(operator(*arguments), n)
    assert whole

    def only(chosen: Tensor) -> list[Tensor]:
        each = (
            x[chosen] if isinstance(x, Tensor) and x.ndim > 0 and x.shape[0] == n else x
            for x in arguments
        )
        return row_results(operator(*each), len(chosen))

    parts = [torch.tensor([i]) for i in range(0, n, fewer(5, 1))]
    for chosen in (*parts, torch.arange(n).flip(0), torch.arange(7, 29)):
        for ours, theirs in zip(only(chosen), whole, strict=True):
            assert torch.equal(ours, theirs[chosen])


@pytest.mark.parametrize("dtype", unless((torch.float32, torch.bfloat16), DTYPES))
@pytest.mark.parametrize("case", operands.CASES)
def test_invalid_rows_leave_the_others_as_they_are(case: str, dtype: torch.dtype) -> None:
    for k in (2, 10, 17):
        p = rows(k, dtype)
        _, broken = spoilt(p)
        operator, arguments = by_rows(case, p)
        first = arguments[0]
        worse, _ = spoilt(first)
        usual = operands.several(operator(*arguments))
        found = operands.several(operator(worse, *arguments[1:]))
        for ours, theirs in zip(row_results(found, 196), row_results(usual, 196), strict=True):
            assert torch.equal(ours[~broken], theirs[~broken]), k
        if case.split()[0] in ("recover", "pull", "perturb", "clean"):
            assert int(found[-1]) == int(broken.sum())
            assert all(bool(x.isfinite().all()) for x in found[:-1])


def test_banks_of_the_tests() -> None:
    found = banks(10)
    counts = {kind: asked.bank.counts[reference.label_of(asked.p)] for kind, asked in found.items()}
    assert bool((counts["few"] == 0).any()) and bool((counts["more than slots"] > 5).any())
    assert bool((counts["only the row"] == 1).all()) and bool((counts["the row, often"] == 6).all())
