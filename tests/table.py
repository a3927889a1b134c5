"""The table that every backend is held against: operations, sizes, rows, sets, tolerances and promises.

A `Case` is one call of one operator. `cases` makes those of one cell of the table; `Case.expected` is the float64
reference's answer, computed once a session; `assert_agrees` and `assert_kept` judge a backend's results.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from distributions import DISTRIBUTIONS, directions, draw, relabelled
from torch import Tensor

from mipoison import reference
from mipoison.reference.move import STYLES
from mipoison.reference.quantize import usable_codewords
from mipoison.reference.rounding import at, finite_rows, put, renormalise, safe_answer

# One ulp at 1 for the 16-bit types; for float32 what docs/threat-model.md promises; float64 carries the root
# searches' resolution.
TOLERANCE = {
    torch.float64: 1e-9,
    torch.float32: 5e-7,
    torch.float16: 2.0**-10,
    torch.bfloat16: 2.0**-7,
}
# One less, equal and one more than the lanes of a register (4, 8, 16), than the blocks between two
# flushes to float64 (64), and than the widest rows that are worked on in columns (320). The 16-bit
# types go the way of float32; float64 is computed 2 to 8 lanes wide.
SIZES = {
    torch.float32: (
        *(2, 3, 4, 5, 7, 8, 9, 10, 15, 16, 17),
        *(63, 64, 65, 100, 319, 320, 321, 1000, 10_000),
    ),
    torch.float64: (2, 3, 4, 5, 7, 8, 9, 100, 1000),
    torch.float16: (2, 7, 8, 9, 16, 17, 100, 320, 321),
    torch.bfloat16: (2, 7, 8, 9, 16, 17, 100, 320, 321),
}
NORMS = {
    "step": ("none", "l1", "l2", "linf"),
    "project": ("none", "l1", "l2", "linf"),
    "move": ("l1", "l2", "linf"),
    "flip": ("none",),
    "quantize": ("none",),
}
ORDER = {"l1": 1.0, "l2": 2.0, "linf": math.inf}
KEY = (1, 2**31, 2**32 - 1, 7)
FAR = 1e6
# Codebooks of more classes take more memory than they are worth.
MOST_CLASSES = {"quantize": 1000}
# The reference's nested roots are slow on long rows; rows do not know how many they are.
MOST_ENTRIES = 500


@dataclass(frozen=True)
class Setting:
    """One set to project onto, and how far the point lies from it.

    Attributes:
        epsilon: the radius; infinite without a ball.
        margin: the margin.
        length: l2 length of the step, or twice the spread of the point's entries around the row.
        about: "own": ball, label and shrunk margin are the row's; "strict": the margin is not
            shrunk; "center": they are another row's; "label": another label must win, margin not
            shrunk; "alone": no center; "alone, label": neither, another label.
    """

    epsilon: float
    margin: float
    length: float
    about: str = "own"


# Sets of which some are empty: another label wins only where the ball reaches that far.
_SOME_EMPTY = {"l1": 0.8, "l2": 0.5, "linf": 0.4}


def _in_ball(norm: str) -> tuple[Setting, ...]:
    return (
        Setting(0.0, 0.01, 0.1),
        Setting(1e-6, 0.0, 1.0),
        Setting(2e-5, 0.3, 0.1, "center"),
        Setting(0.02, 0.0, 0.1),
        Setting(0.02, 0.3, 1.0),
        Setting(0.02, 0.005, 0.1, "strict"),
        Setting(0.2, 0.01, 1.0, "center"),
        Setting(0.2, 1.0, FAR),
        Setting(0.2, 0.0, 0.1, "strict"),
        Setting(0.2, 1.0, 1.0),
        Setting(_SOME_EMPTY[norm], 0.1, 1.0, "label"),
        Setting(2.0, 0.3, 1.0, "label"),
    )


SETTINGS = {
    "none": (
        Setting(math.inf, 0.0, 0.1),
        Setting(math.inf, 0.0, 0.1, "alone"),
        Setting(math.inf, 0.01, 1.0, "center"),
        Setting(math.inf, 0.3, 0.1),
        Setting(math.inf, 0.3, 1.0, "label"),
        Setting(math.inf, 1.0, FAR),
        Setting(math.inf, 0.0, FAR, "alone, label"),
        Setting(math.inf, 1.0, 1.0, "alone"),
    ),
    **{norm: _in_ball(norm) for norm in ORDER},
}
TABLE = tuple(
    (operation, dtype, k, norm)
    for dtype, sizes in SIZES.items()
    for k in sizes
    for operation, norms in NORMS.items()
    if k <= MOST_CLASSES.get(operation, k)
    for norm in norms
)


@dataclass(frozen=True, eq=False)
class Case:
    """One call of an operator.

    Attributes:
        operation: the operator's name.
        arguments: its arguments; those with a row for each row of the call are tensors of as many rows.
        kinds: where each row comes from, to name it when it fails.
    """

    operation: str
    arguments: tuple[Any, ...]
    kinds: tuple[str, ...]

    def _with(self, change: Callable[[Tensor], Tensor], kinds: tuple[str, ...]) -> Case:
        """Changes the arguments that have rows; one tensor given twice stays one."""
        made: dict[int, Tensor] = {}

        def changed(x: Any) -> Any:
            if not self.has_rows(x):
                return x
            return made.setdefault(id(x), change(x))

        return replace(self, arguments=tuple(map(changed, self.arguments)), kinds=kinds)

    def has_rows(self, x: Any) -> bool:
        """Whether an argument has a row for each row, unlike a flip's key or the codewords of all rows."""
        shared = {"flip": 3, "quantize": 1}.get(self.operation, len(self.arguments))
        return isinstance(x, Tensor) and all(x is not other for other in self.arguments[shared:])

    def only(self, rows: Tensor) -> Case:
        """The same call on some of its rows, in any order."""
        kinds = tuple(self.kinds[i] for i in rows.tolist())
        return self._with(lambda x: x[rows], kinds)

    def to(self, dtype: torch.dtype) -> Case:
        """The same call in another dtype."""
        return self._with(lambda x: x.to(dtype) if x.is_floating_point() else x, self.kinds)

    @functools.cached_property
    def expected(self) -> tuple[Tensor, ...]:
        """The float64 reference's answer: its results, then the mask of valid rows."""
        answer: tuple[Tensor, ...] = getattr(reference, self.operation)(*self.arguments)
        return answer

    @property
    def region(self) -> tuple[Tensor | None, Tensor | None, float, str, float, bool]:
        """Center, label, epsilon, norm, margin and shrink that the answer must respect."""
        if self.operation == "step":
            _, _, p, t, _, *rest = self.arguments
            return (p, t, *rest)  # type: ignore[return-value]
        if self.operation == "project":
            return self.arguments[1:]  # type: ignore[return-value]
        if self.operation == "move":
            p, _, epsilon, norm, _ = self.arguments
            return p, None, epsilon, norm, 0.0, False
        return self.arguments[0], None, math.inf, "l1", 0.0, False


def rows_of(k: int, rows: int) -> Tensor:
    """Probability vectors of all distributions in turn, so that neighbours differ; float64."""
    each = [draw(d, rows, k, seed=i) for i, d in enumerate(DISTRIBUTIONS)]
    return torch.stack(each, 1).flatten(0, 1)


def _projection(operation: str, setting: Setting, norm: str, p: Tensor, g: Tensor) -> Case:
    n, k = p.shape
    norm, start, center, label = "l1" if norm == "none" else norm, p, p, None
    if setting.about == "center":
        start = p.roll(1, 0)
    if setting.about.startswith("alone"):
        center = None
    if setting.about.endswith("label"):
        label = (reference.label_of(p) + 1 + torch.arange(n) % (k - 1)) % k
    shrink = setting.about in ("own", "center")
    around = (setting.epsilon, norm, setting.margin, shrink)
    kinds = tuple(f"{DISTRIBUTIONS[i % len(DISTRIBUTIONS)]} {setting}" for i in range(n))
    if operation == "step":
        return Case("step", (start, g, center, label, setting.length, *around), kinds)
    # float16 ends at 65,504.
    z = (start.double() + min(setting.length, 1e4) / 2 * g.double()).to(p.dtype)
    return Case("project", (z, center, label, *around), kinds)


def _moves(norm: str, p: Tensor) -> Iterator[Case]:
    label = reference.label_of(p)
    aim = draw("plain", *p.shape, seed=3).to(p.dtype)
    target = reference.project(aim, None, label, math.inf, "l1", 0.0, False)[0]
    kinds = tuple(DISTRIBUTIONS[i % len(DISTRIBUTIONS)] for i in range(len(p)))
    for epsilon in (0.0, 1e-6, 0.02, 0.2, 1.0, math.inf):
        for style in STYLES if norm == "l1" else ("straight",):
            yield Case("move", (p, target, epsilon, norm, style), kinds)


def _flips(p: Tensor) -> Iterator[Case]:
    n, k = p.shape
    kinds = tuple(DISTRIBUTIONS[i % len(DISTRIBUTIONS)] for i in range(n))
    for style in ("swap", "project"):
        for targets in (None, torch.arange(n) % (k + 1) - 1):
            for rate in (0.0, 0.4, 1.0):
                yield Case("flip", (p, targets, rate, torch.tensor(KEY), style), kinds)


@functools.cache
def codewords_of(k: int, words: int) -> Tensor:
    """So many codewords of each label, float32 [k, words, k]: peaked and flat ones, and some twice."""
    rows = torch.cat([draw(d, max(2, k * words // 4 + 1), k, seed=11) for d in ("plain", "peaked")])
    rows = rows[torch.arange(k * words) * 7 % len(rows)].float()
    return relabelled(rows, torch.arange(k).repeat_interleave(words)).view(k, words, k)


def _quantizations(p: Tensor) -> Iterator[Case]:
    n, k = p.shape
    kinds = tuple(DISTRIBUTIONS[i % len(DISTRIBUTIONS)] for i in range(n))
    for words in (1, 3, 17) if k <= 400 else (1, 8):
        codewords = codewords_of(k, words)
        offsets = torch.arange(k * words).view(k, words) % 5 * 0.05
        for more in (None, offsets):
            # Each row once beside a codeword, once as it comes.
            near = codewords[reference.label_of(p), -1].to(p.dtype)
            for rows in (p, ((p + 3 * near) / 4).to(p.dtype)):
                yield Case("quantize", (rows, codewords, more), kinds)


def cases(
    operation: str, dtype: torch.dtype, k: int, norm: str, rows: int, every: bool = True
) -> Iterator[Case]:
    """The calls of one cell of the table, with so many rows of each distribution.

    Args:
        operation: "step", "project", "move", "flip" or "quantize".
        dtype: of the rows.
        k: classes.
        norm: of the ball, or "none".
        rows: rows of each distribution.
        every: all settings; otherwise `step` and `project` take turns, the other way round at the
            next size, and far points, at which the reference is slow, have a ball in float32 alone.
    """
    p = rows_of(k, rows).to(dtype)
    g = directions(len(p), k).to(dtype)
    if operation == "move":
        yield from _moves(norm, p)
    elif operation == "flip":
        yield from _flips(p)
    elif operation == "quantize":
        yield from _quantizations(p)
    else:
        turn = SIZES[dtype].index(k) + (operation == "project") if not every else 0
        for i, setting in enumerate(SETTINGS[norm]):
            slow = norm != "none" and setting.length == FAR and (dtype != torch.float32 or k > 1000)
            if every or ((i + turn) % 2 == 0 and not slow):
                yield _projection(operation, setting, norm, p, g)


@functools.cache
def small_cases(operation: str, dtype: torch.dtype, k: int, norm: str) -> tuple[Case, ...]:
    """Those of `cases` that the reference can answer in little time; the same objects every time."""
    rows = min(7, max(1, MOST_ENTRIES // k))
    return tuple(cases(operation, dtype, k, norm, rows, every=False))


@contextlib.contextmanager
def poisoned() -> Iterator[None]:
    """Tensors that Python allocates meanwhile hold NaN, or the largest integer, until they are written."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(1).isnan()
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _assert_all(case: Case, excess: Tensor, allowed: float, what: str) -> None:
    """No row's excess is above what is allowed; NaN is."""
    bad = ~(excess <= allowed)
    if bool(bad.any()):
        row = int(torch.where(bad, excess.nan_to_num(math.inf), -math.inf).argmax())
        raise AssertionError(
            f"{case.operation}, row {row} of {len(excess)} ({case.kinds[row]}): {what} "
            f"{float(excess[row]):.3g}, allowed {allowed:.3g} ({int(bad.sum())} such rows)"
        )


def assert_near(case: Case, q: Tensor, exact: Tensor, tolerance: float) -> None:
    """Every entry is as near to the exact answer as the dtype allows."""
    assert q.shape == exact.shape
    _assert_all(case, (q.double() - exact.double()).abs().amax(1), tolerance, "off by")


def assert_agrees(case: Case, results: tuple[Tensor, ...]) -> None:
    """Closeness: the results are the reference's, and the status its count of invalid rows."""
    q, *labels, status = results
    exact, *same, valid = case.expected
    assert q.dtype == exact.dtype
    assert_near(case, q, exact, TOLERANCE[q.dtype])
    assert int(status) == int((~valid).sum())
    assert all(torch.equal(x, y) for x, y in zip(labels, same, strict=True))


def lead_of(q: Tensor, label: Tensor) -> Tensor:
    """By how much the label's entry is above every other; [N]."""
    return at(q, label) - put(q, label, -torch.inf).amax(1)


def judged(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Renormalised center, label, margin and validity of each row, without solving anything."""
    first, region = case.arguments[0], case.region
    if case.operation in ("step", "project"):
        _, center, label, margin, valid = reference.prepare(first, *region)
        if case.operation == "step":
            valid = valid & finite_rows(case.arguments[1])
        return center, label, margin, valid
    valid, label = reference.valid_rows(first), reference.label_of(first)
    if case.operation == "move":
        target = case.arguments[1]
        valid = valid & reference.valid_rows(target) & (reference.label_of(target) == label)
    elif case.operation == "quantize":
        valid = valid & usable_codewords(*case.arguments[1:])[label]
    elif case.arguments[1] is not None:
        targets = case.arguments[1]
        valid = valid & (targets >= -1) & (targets < first.shape[1])
    return renormalise(first, valid), label, torch.zeros(len(first), dtype=torch.float64), valid


def assert_kept(case: Case, results: tuple[Tensor, ...]) -> None:
    """The invariants, measured in float64 from the renormalised row, whatever the exact answer is.

    A valid row is finite, not negative, sums to 1, leads at its label strictly and by its margin,
    and stays in its ball; an invalid one gets the safe answer and is counted.
    """
    q, *labels, status = results
    p, t, epsilon, norm, _, _ = case.region
    center, label, margin, valid = judged(case)
    assert int(status) == int((~valid).sum())
    # The 16-bit types round k entries of at most 1 by half an ulp each.
    ulp, narrow = torch.finfo(q.dtype).eps, q.dtype in (torch.float16, torch.bfloat16)
    slack = q.shape[1] * ulp / 2 if narrow else 0.0

    def promise(excess: Tensor, allowed: float, what: str) -> None:
        _assert_all(case, torch.where(valid, excess, -math.inf), allowed, what)

    answer, source = q.double(), case.arguments[0] if p is None else p
    refused = safe_answer(source, reference.label_of(source) if t is None else t, q.dtype)
    off = (answer - refused.double()).abs().amax(1)
    _assert_all(case, torch.where(valid, 0.0, off), 0.0, "invalid, and not the safe answer by")
    promise((~torch.isfinite(answer)).any(1).double(), 0.0, "not finite")
    promise(-answer.amin(1), 0.0, "negative by")
    promise((answer.sum(1) - 1).abs(), slack or 1e-6, "sum off by")
    served = labels[0] if case.operation == "flip" else label
    lead = lead_of(answer, served)
    promise((lead <= 0).double(), 0.0, "label not leading")
    promise(margin - lead, 1e-12, "margin missed by")
    if not math.isinf(epsilon):
        moved = torch.linalg.vector_norm(answer - center, ORDER[norm], dim=1)
        # Strictness outranks the ball by one ulp of the label's entry.
        promise(moved - epsilon, slack + ulp if narrow else 2e-7, "out of the ball by")


def spoil(case: Case) -> Case:
    """The same call with every third row broken, in one way after the other."""
    n = len(case.kinds)
    kinds = list(case.kinds)
    made: dict[int, Tensor] = {}

    def copied(x: Any) -> Any:
        return made.setdefault(id(x), x.clone()) if case.has_rows(x) else x

    arguments = tuple(map(copied, case.arguments))
    matrices = [x for x in made.values() if x.is_floating_point()]
    columns = [x for x in made.values() if not x.is_floating_point()]
    ways = [
        *((x, value) for x in matrices for value in (math.nan, math.inf, -math.inf, -0.1, 1.5)),
        *((x, value) for x in columns for value in (-2, -(2**40), matrices[0].shape[1], 2**40)),
    ]
    for place, row in enumerate(range(1, n, 3)):
        tensor, value = ways[place % len(ways)]
        if tensor.ndim == 1:
            tensor[row] = int(value)
        else:
            tensor[row, place % tensor.shape[1]] = value
        kinds[row] = f"broken by {value}, {kinds[row]}"
    return Case(case.operation, arguments, tuple(kinds))
