"""A certificate: a lower bound for the error of every adversary, whatever it computes and knows.

Where the answers Y to inputs X take finitely many values, every estimator x̂ has E‖X − x̂(Y)‖² ≥ E[Var(X | Y)]: the
variance of the inputs behind one answer cannot be reconstructed. It is estimated from pairs of held-out inputs that got
the same answer, and bounded from below by betting (docs/mathematics.md).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from mipoison.certificates.betting import lower_bound
from mipoison.certificates.certificate import MOST_ALONE, Certificate, Secret
from mipoison.forked import fork_safe
from mipoison.ops.arrays import as_array
from mipoison.ops.numbers import as_number
from mipoison.ops.rows import label_of
from mipoison.ops.validation import (
    as_inputs,
    as_labels,
    as_rows,
    as_seed,
    name_rows,
    require_probabilities,
)
from mipoison.reference.rounding import finite_rows

# Pairings of the rows: the mean of the capitals of several is steadier. Fewer where rows are many, up to so many pairs.
_PAIRINGS: Final = 32
_PAIRS: Final = 1 << 20
# Differences of inputs are taken of so many entries at a time.
_ENTRIES: Final = 1 << 24
# Integers as wide as an entry, to compare bits.
_WORDS: Final = {2: torch.int16, 4: torch.int32, 8: torch.int64}


@fork_safe
def certify(
    answers: Callable[[Tensor], Tensor] | Any,
    outputs: Any,
    inputs: Any,
    *,
    confidence: float = 0.95,
    secrets: Mapping[str, Any] | None = None,
    groups: Any = None,
    low: float = 0.0,
    high: float = 1.0,
    seed: int = 0,
) -> Certificate:
    """Bounds the reconstruction error of every adversary who sees one answer, from held-out rows.

    Valid for any number of rows and any distribution, where the rows are independent and the defense was not fitted on
    them. Each bound holds at the confidence by itself. A keyed defense is certified for the key that it has.

    Args:
        answers: a defense, or its answers to the outputs, [N, K]; equal answers are equal in every bit.
        outputs: held-out outputs of the target classifier, [N, K].
        inputs: their inputs, [N, ...], numbers in [low, high].
        confidence: 1 − δ, in [0.5, 1).
        secrets: by name, a category of each input, integers or texts, [N].
        groups: integers [N]: rows of one number are copies of one input, of which one is used.
        low: smallest possible number of an input.
        high: largest possible number of an input.
        seed: of the pairings of the rows.

    Returns:
        The certificate. Where nine rows in ten have an answer of their own its bound is 0, and it says why.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for outputs that are no probability vectors, other shapes, fewer than 4 inputs, or inputs out of
            range.

    Example:
        >>> import mipoison as mp, torch
        >>> from mipoison.defenses import LabelOnly
        >>> p, x = torch.rand(1000, 3).softmax(1), torch.rand(1000, 4)
        >>> certificate = mp.certify(LabelOnly(), p, x)
        >>> 0.07 < certificate.mse < 1 / 12 + 0.005
        True
    """
    rows = as_rows("outputs", outputs).detach()
    require_probabilities("outputs", rows)
    x = as_inputs(inputs, rows, exact=True)
    confidence = as_number("confidence", confidence, 0.5, 1.0)
    if confidence == 1.0:
        raise ValueError("expected confidence < 1, got 1; no bound but 0 is certain")
    low, high = as_number("low", low, -math.inf), as_number("high", high, -math.inf)
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"expected low < high, both finite, got {low:g} and {high:g}")
    outside = ((x < low) | (x > high)).flatten(1).any(1)
    if bool(outside.any()):
        raise ValueError(
            f"expected inputs in [{low:g}, {high:g}], got others in {name_rows(outside)}; pass their range as low= "
            "and high="
        )
    seed = as_seed(seed)
    if secrets is not None and not isinstance(secrets, Mapping):
        raise TypeError(
            f"expected secrets to be a mapping from names to categories, got {type(secrets).__name__}"
        )
    known = {name: _categories(name, values, rows) for name, values in (secrets or {}).items()}
    cell = _cells(_answers(answers, rows))
    label = label_of(rows)

    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(rows), generator=generator, device="cpu").to(rows.device)
    if groups is not None:
        order = order[_firsts(as_labels("groups", groups, rows)[order])]
    n = len(order)
    if n < 4:
        raise ValueError(f"expected at least 4 different inputs, got {n}; pass more held-out rows")
    x = x.flatten(1)[order]
    cell, label = _numbered(cell[order]), _numbered(label[order])
    count = max(1, min(_PAIRINGS, 2 * _PAIRS // n))
    orders = torch.stack(
        [torch.randperm(n, generator=generator, device="cpu") for _ in range(count)]
    ).to(rows.device)
    counts = torch.bincount(cell)
    # (An answer that several labels share is one of each.)
    pairs = torch.unique(torch.stack((label, cell)), dim=1)
    of_label = torch.bincount(pairs[0])
    alone = int((counts == 1).sum()) / n
    # Some repeats among answers that differ prove next to nothing.
    mse = 0.0 if alone > MOST_ALONE else _bound(x, cell, orders, confidence)
    return Certificate(
        mse=mse,
        mse_seen=_within(x, cell),
        label_mse=_bound(x, label, orders, confidence),
        label_mse_seen=_within(x, label),
        confidence=confidence,
        rows=n,
        answers=len(counts),
        bits=math.log2(int(of_label.max())),
        alone=alone,
        low=low,
        high=high,
        secrets={
            name: _guessed(values[order], cell, label, confidence) for name, values in known.items()
        },
    )


def _answers(answers: Any, rows: Tensor) -> Tensor:
    """The answers to the rows, [N, K], detached."""
    given = answers(rows) if callable(answers) else answers
    q = as_rows("answers", given).detach()
    if q.shape[0] != rows.shape[0]:
        raise ValueError(f"expected as many answers as outputs, got {len(q)} and {len(rows)}")
    if not bool(finite_rows(q).all()):
        raise ValueError(
            f"expected finite answers, got NaN or Inf in {name_rows(~finite_rows(q))}; look at what answered"
        )
    return q.to(rows.device)


def _categories(name: str, values: Any, rows: Tensor) -> Tensor:
    """The categories of a secret as integers from 0, [N]."""
    given = values
    if not isinstance(values, Tensor):
        given = as_array(f"secrets[{name!r}]", values)
        kind = given.dtype.kind
        texts = kind in "US" or (kind == "O" and all(isinstance(one, str) for one in given.flat))
        if np.ma.is_masked(given):
            texts, kind = False, "O"
        if texts:
            given = np.unique(given.astype(str), return_inverse=True)[1]
        elif kind not in "biu":
            got = "others" if kind == "O" else str(given.dtype)
            raise TypeError(
                f"expected secrets[{name!r}] to be integers or texts, without missing values, got {got}; divide "
                "numbers into ranges, and leave rows without a value out"
            )
    return _numbered(as_labels(f"secrets[{name!r}]", given, rows))


def _numbered(values: Tensor) -> Tensor:
    """Different values numbered from 0."""
    numbers: Tensor = torch.unique(values, return_inverse=True)[1]
    return numbers


def _firsts(values: Tensor) -> Tensor:
    """The place of the first row of each different value, growing."""
    number = _numbered(values)
    first = torch.full(
        (int(number.max()) + 1,), len(values), dtype=torch.int64, device=values.device
    )
    places = torch.arange(len(values), device=values.device)
    firsts: Tensor = first.scatter_reduce(0, number, places, "amin").sort().values
    return firsts


def _cells(q: Tensor) -> Tensor:
    """Numbers rows [N, K] so that two have one number where they are equal in every bit, [N]."""
    bits = q.contiguous().view(_WORDS[q.element_size()]).to(torch.int64)
    # Sums of products that wrap around are hashes; rows that one brings together are compared.
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(2**62, (q.shape[1],), generator=generator, device="cpu") * 2 + 1
    cell = _numbered((bits * odd.to(q.device)).sum(1))
    example = torch.empty(len(q), dtype=torch.int64, device=q.device)
    example[cell] = torch.arange(len(q), device=q.device)
    if bool((bits == bits[example[cell]]).all()):
        return cell
    numbers: Tensor = torch.unique(bits, dim=0, return_inverse=True)[1]
    return numbers


def _bound(x: Tensor, cell: Tensor, orders: Tensor, confidence: float) -> float:
    """Lower bound for E[Var(X | Y)] of inputs [n, D], by entry."""
    distances, weights = _pairs(x, cell, orders)
    alone = int((torch.bincount(cell) == 1).sum())
    return lower_bound(distances, weights, alone, confidence)


def _pairs(x: Tensor, cell: Tensor, orders: Tensor) -> tuple[Tensor, Tensor]:
    """Halved squared distances ½‖x_i − x_j‖²/D of disjoint pairs in each cell; of an odd number of rows one is left.

    Args:
        x: inputs, [n, D].
        cell: numbers of their answers, from 0, [n].
        orders: random orders of the rows, [S, n]; each makes other pairs.

    Returns:
        float64 [S, P], and the rows of each pair's cell by its pairs, float64 [P].
    """
    sizes = torch.bincount(cell)
    by_cell = torch.sort(cell[orders], dim=1, stable=True)
    rows, sorted_cells = orders.gather(1, by_cell.indices), by_cell.values[0]
    place = torch.arange(len(cell), device=cell.device)
    turn = place - (sizes.cumsum(0) - sizes)[sorted_cells]
    first = place[(turn % 2 == 0) & (turn + 1 < sizes[sorted_cells])]
    left, right = rows[:, first].flatten(), rows[:, first + 1].flatten()
    step = max(1, _ENTRIES // x.shape[1])
    distances = [
        (x[i].double() - x[j].double()).square().mean(1) / 2
        for i, j in zip(left.split(step), right.split(step), strict=True)
    ]
    size = sizes[sorted_cells[first]]
    return torch.cat(distances).view(len(orders), len(first)), size / (size // 2).double()


def _within(x: Tensor, cell: Tensor) -> float:
    """Mean over the rows of the unbiased variance in their cell, by entry; 0 for rows that are alone."""
    sizes = torch.bincount(cell)
    total = 0.0
    # By columns, which bounds the memory.
    for part in x.split(max(1, _ENTRIES // len(x)), dim=1):
        wide = part.double()
        mean = wide.new_zeros(len(sizes), wide.shape[1]).index_add_(0, cell, wide)
        mean /= sizes.unsqueeze(1)
        squares = (wide - mean[cell]).square().sum(1)
        total += float((squares * sizes[cell] / (sizes[cell] - 1).clamp_min(1)).sum())
    return total / x.numel()


def _guessed(values: Tensor, cell: Tensor, label: Tensor, confidence: float) -> Secret:
    """The bound by McDiarmid's inequality: one row changes the share that is guessed right by 1/n at most."""
    n = len(values)

    def best(given: Tensor) -> float:
        """Share of rows that the most frequent value of each number gets right."""
        kinds = int(values.max()) + 1
        number, times = torch.unique(given * kinds + values, return_counts=True)
        most = torch.zeros(int(given.max()) + 1, dtype=torch.int64, device=values.device)
        most.scatter_reduce_(0, number // kinds, times, "amax")
        return int(most.sum()) / n

    seen = best(cell)
    accuracy = min(1.0, seen + math.sqrt(-math.log1p(-confidence) / (2 * n)))
    return Secret(accuracy, seen, best(label), best(torch.zeros_like(cell)))
