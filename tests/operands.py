"""What the operators on small networks, on banks and on rows of defenses are given beside the rows."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from distributions import draw
from later import unless
from table import KEY, codewords_of
from torch import Tensor

from mipoison.defenses.bank import Bank
from mipoison.nn import initial
from mipoison.ops.banks import Grouped
from mipoison.ops.unchecked import Packed
from mipoison.reference.network import Layers, features, whole_lanes
from mipoison.standards import feature_standards

# Numbers of a goal, and of what networks recover from rows and vectors.
COMPONENTS = 3
SLOTS = 5


@functools.cache
def packed(
    k: int, *, members: int = 2, width: int = 32, outputs: int = 32, seed: int = 0
) -> Packed:
    """Small networks of K classes that were not trained, packed as the operators take them."""
    x = features(draw("plain", 64, k, seed=seed).float())
    state = initial(
        whole_lanes(2 * k),
        width,
        outputs,
        members=members,
        generator=torch.Generator().manual_seed(seed),
        device=torch.device("cpu"),
    )
    network = Layers.of(*feature_standards(x, k), state).packed()
    return Packed(network, members, whole_lanes(width), whole_lanes(outputs))


@functools.cache
def bank_of(k: int, each: int = 4) -> Grouped:
    """A bank with so many vectors of each label, some of them equal, and none of the last one."""
    return Bank(codewords_of(k, each)[:-1].flatten(0, 1)).grouped


@functools.cache
def numbers(n: int, columns: int, seed: int = 5) -> Tensor:
    """Gaussian numbers for each row, float32 [N, columns]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, columns, generator=generator, dtype=torch.float32)


@functools.cache
def words_of(n: int, columns: int, seed: int = 5) -> Tensor:
    """Keyed 32-bit words for each row, int64 [N, columns]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(2**32, (n, columns), generator=generator)


@functools.cache
def recovered_of(bank_size: int, components: int = COMPONENTS, seed: int = 9) -> Tensor:
    """Recovery from each vector of a bank, its deviation, and the squared length of both, float32 [M, C + 2]."""
    both = numbers(bank_size, components + 1, seed)
    return torch.cat((both, both.square().sum(1, keepdim=True)), 1)


def goal_of(n: int) -> Tensor:
    """What networks are to recover from each row, float32 [N, COMPONENTS]."""
    return numbers(n, COMPONENTS)


@functools.cache
def near_of(n: int) -> Tensor:
    """Distances from goals below which steps are shortened, float32 [N]."""
    return numbers(n, 1, seed=6)[:, 0].abs() + 0.1


def _network(p: Tensor) -> tuple[Tensor, int, int]:
    network = packed(p.shape[1])
    return network.packed, network.members, network.width


def _perturb(p: Tensor, center: Tensor | None, near: Tensor | None, *region: Any) -> Any:
    """The arguments of two steps."""
    return (p, goal_of(len(p)), *_network(p), center, near, 2, 0.05, *region)


def _in_bank(p: Tensor) -> tuple[Any, ...]:
    """Rows and a bank, which is float32 as they must be."""
    return p.float(), *bank_of(p.shape[1])


def _spread(k: int) -> Tensor:
    """How far the bank's vectors of each label are from its first one at most, float32 [K]."""
    return Bank(codewords_of(k, 4)[:-1].flatten(0, 1)).spread


def _choose(p: Tensor, norm: str, root: bool) -> tuple[Any, ...]:
    rows, *bank = _in_bank(p)
    predicted = numbers(len(p), 2 * COMPONENTS + 1)
    words = words_of(len(p), 1)
    return (rows, *bank, predicted, recovered_of(len(bank[0])), words, SLOTS, 0.3, norm, 0.5, root)


def _approach(p: Tensor) -> tuple[Any, ...]:
    """Some vector of each row's label, or none, and a share of the way to it."""
    _, vectors, start, count, *_ = _in_bank(p)
    label = p.float().argmax(1)
    place = start[label] + words_of(len(p), 1)[:, 0] % count[label].clamp_min(1)
    shares = near_of(len(p)).clamp_max(1.0)
    return p, vectors, torch.where(count[label] > 0, place, -1), shares


# A key and the width of its cells.
_KEYED = torch.tensor(KEY), 0.1
# Name of the operator and its arguments, from probability vectors p and others of the same labels, v, both [N, K].
# (Nothing is computed of their entries, which process settings would change.)
CASES: dict[str, tuple[str, Callable[[Tensor, Tensor], tuple[Any, ...]]]] = {
    "recover": ("recover", lambda p, v: (p, *_network(p), COMPONENTS)),
    "pull": ("pull", lambda p, v: (p, goal_of(len(p)), *_network(p), False)),
    "pull smooth": ("pull", lambda p, v: (p, goal_of(len(p)), *_network(p), True)),
    "perturb": ("perturb", lambda p, v: _perturb(p, None, None, None, "l1", 0.0, False, False)),
    "perturb near": (
        "perturb",
        lambda p, v: _perturb(p, None, near_of(len(p)), 0.1, "l2", 0.0, True, True),
    ),
    "perturb center": (
        "perturb",
        lambda p, v: _perturb(p, v, None, None, "l1", 0.01, True, False),
    ),
    "distances": (
        "distances",
        lambda p, v: (torch.stack((p, v, p), 1), goal_of(len(p)), *_network(p)),
    ),
    "clean": ("clean", lambda p, v: (p,)),
    "label_of": ("label_of", lambda p, v: (p,)),
    "lead": ("lead", lambda p, v: (v, p)),
    "distance l1": ("distance", lambda p, v: (v, p, "l1")),
    "distance l2": ("distance", lambda p, v: (v, p, "l2")),
    "distance linf": ("distance", lambda p, v: (v, p, "linf")),
    "lose_label": ("lose_label", lambda p, v: (p, v, p.argmax(1), 1, 4)),
    "soften": ("soften", lambda p, v: (p, 2.0, 1e-6)),
    "stray": ("stray", lambda p, v: (v, p, "l1", 0.05, 0.6, 0.1)),
    "keyed_step": ("keyed_step", lambda p, v: (p, None, *_KEYED, 0.4, 0.2, "l1")),
    "keyed_step seen": (
        "keyed_step",
        lambda p, v: (p, numbers(len(p), 9), *_KEYED, 1.0, 0.1, "l2"),
    ),
    "approach": ("approach", lambda p, v: _approach(p)),
    "solitary": ("solitary", lambda p, v: (*_in_bank(p), _spread(p.shape[1]))),
    "pick_each": ("pick_each", lambda p, v: (*_in_bank(p), words_of(len(p), 3))),
    "nearest": ("nearest", lambda p, v: (*_in_bank(p), words_of(len(p), 1)[:, 0], SLOTS, 3)),
    "choose_move": ("choose_move", lambda p, v: _choose(p, "l1", False)),
    "choose_move root": ("choose_move", lambda p, v: _choose(p, "l2", True)),
}
# Cases that are tried by default: one of each operator, and one with all tensors that perturb takes.
TRIED = tuple(
    unless(
        (*dict.fromkeys(name for name, _ in CASES.values()), "perturb near", "distance l1"), CASES
    )
)
# Operators that defenses alone call.
INTERNAL = (
    *("distances", "clean", "label_of", "lead", "distance", "lose_label", "soften"),
    *("stray", "keyed_step", "approach"),
    *("solitary", "pick_each", "nearest", "choose_move"),
)
# Those that take rows of float32 alone.
IN_BANKS = ("solitary", "pick_each", "nearest", "choose_move", "choose_move root")


def compiled(name: str) -> Callable[..., Any]:
    """The operator of that name."""
    operator: Callable[..., Any] = getattr(torch.ops.mipoison, name)
    return operator


def several(result: Any) -> tuple[Tensor, ...]:
    """What a call returned, as a tuple."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def call(
    case: str, p: Tensor, v: Tensor, operators: Callable[[str], Callable[..., Any]]
) -> tuple[Tensor, ...]:
    """The results of a case by the operator that `operators` gives for a name."""
    name, given = CASES[case]
    return several(operators(name)(*given(p, v)))
