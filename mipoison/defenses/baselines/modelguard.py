"""ModelGuard (Tang et al., USENIX Security 2024): the longest or the least informative move within a cap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.construction import constructor
from mipoison.defenses.base import Defense
from mipoison.defenses.baselines.cover import Cover
from mipoison.defenses.clean import as_dtype, defender_rows
from mipoison.defenses.lead import least_lead
from mipoison.defenses.lpa.codebook import padded, require_codewords
from mipoison.defenses.pieces import ROWS
from mipoison.defenses.saving import Restore
from mipoison.neutral import neutrally
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_number
from mipoison.reference.quantize import UNITS, units
from mipoison.reference.rounding import renormalise
from mipoison.reference.rows import on_rows

# Each section leaves so much of an interval of levels: so many leave 1e-13 of it.
_GOLDEN: Final = (5**0.5 - 1) / 2
_SECTIONS: Final = 62
# What fits into a class below its level counts as room from here on.
_ROOM: Final = 1e-12


class ModelGuardW(Defense):
    """Minimises Σ_j q_j log p_j over the row's set ‖q − p‖₁ ≤ ε with the row's label: what W does to rows.

    The authors solve a linear program for each row. Here its optimum is found by its structure. Let the label get s,
    and nobody more. The most likely other classes then lose first, down to zero, and the least likely ones gain first,
    up to s, until ε/2 has moved or all mass lies there. What is left is a convex function of s alone. Needs no key and
    no fit. Whoever knows it can undo most of it, as its authors say: W is meant for adversaries who do not try.

    Args:
        epsilon: hard cap on the row's move, l1, in [0, 2].
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting of a wrong kind.
        ValueError: for one out of its range.

    Example:
        >>> import torch
        >>> ModelGuardW(epsilon=0.2)(torch.tensor([[0.7, 0.2, 0.1]]))
        tensor([[0.6000, 0.2000, 0.2000]])
    """

    name: ClassVar[str] = "ModelGuard-W"
    saved: ClassVar[tuple[str, ...]] = ("epsilon",)

    def __init__(
        self, *, epsilon: float = 0.2, on_invalid: str = "raise", margin: float = 1e-3
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0)

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.epsilon, "l1"

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        rows = p.to(torch.float64)
        falling, order = rows.sort(dim=-1, descending=True, stable=True)
        moved = torch.zeros_like(rows).scatter(-1, order, _optimum(falling, self.epsilon / 2))
        # Entries that were cut at one level tie: the label wins by the projection.
        label = label_of(p)
        return as_dtype(
            ops.project(
                moved, center=rows, label=label, epsilon=self.epsilon, norm="l1", validate=False
            ),
            p.dtype,
            label,
        )

    def extra_repr(self) -> str:
        """Settings."""
        return f"epsilon={self.epsilon:g}"


def _optimum(falling: Tensor, half: float) -> Tensor:
    """The optimal rows for entries [N, K] that fall from the label's on, where ε/2 may move."""
    k = falling.shape[-1]
    costs = falling.clamp_min(torch.finfo(torch.float64).tiny).log()
    # 1. The least s is the level with Σ max(p − s, 0) = ε/2, but no lower than 1/K, where all entries are equal.
    counts = torch.arange(1, k + 1, device=falling.device, dtype=torch.float64)
    low = ((falling.cumsum(-1) - half) / counts).amax(-1, keepdim=True).clamp_min(1 / k)
    least = _at(low, falling, half)
    # 2. It is the best where it takes from two classes at most and the least likely one has room for all of it.
    full = least[..., -1] >= low[..., 0] - _ROOM
    rest = ((least < falling).sum(-1) > 2) | full

    def searched(low: Tensor, falling: Tensor, costs: Tensor, least: Tensor) -> tuple[Tensor]:
        # 3. Golden sections: of two s the one with the smaller objective is nearer to the best.
        high = torch.maximum(low, (falling[..., :1] + half).clamp_max(1.0))
        for _ in range(_SECTIONS):
            step = _GOLDEN * (high - low)
            left, right = high - step, low + step
            of_left, of_right = (_total(_at(s, falling, half) * costs) for s in (left, right))
            better = of_left < of_right
            low, high = torch.where(better, low, left), torch.where(better, right, high)
        # 4. The least s may be the best itself.
        found = _at((low + high) / 2, falling, half)
        nearer = _total(found * costs) < _total(least * costs)
        return (torch.where(nearer, found, least),)

    return on_rows(rest, (least,), searched, low, falling, costs, least)[0]


def _at(level: Tensor, falling: Tensor, half: float) -> Tensor:
    """The optimal rows [N, K] where the label gets the level [N, 1] and the others no more."""
    label, others = falling[..., :1], falling[..., 1:]
    # From the least likely class on, so much fits in: without a cap on the move, all mass goes there.
    room = level.expand_as(others)
    free = (1 - level - _before_rising(room)).clamp_min(0.0).minimum(room)
    raised = (level - label).clamp_min(0.0)
    all_moved = raised + _total((free - others).clamp_min(0.0))
    most = all_moved.clamp_max(half)
    # What lies above the level is lost; then the most likely classes lose the rest of what may move.
    kept = others.minimum(level)
    lost = _total(others - kept) + (label - level).clamp_min(0.0)
    above = kept.cumsum(-1) - kept
    less = (most - lost - above).clamp_min(0.0).minimum(kept)
    more = (most - raised - _before_rising(level - kept)).clamp_min(0.0).minimum(level - kept)
    return torch.cat((level, kept - less + more), -1)


def _before_rising(x: Tensor) -> Tensor:
    """For each entry the sum of those behind it, [N, K]."""
    return (x.flip(-1).cumsum(-1) - x.flip(-1)).flip(-1)


def _total(x: Tensor) -> Tensor:
    """Sums [N, 1], in an order that does not depend on the batch."""
    return x.cumsum(-1)[..., -1:]


def covers_of(p: Tensor) -> list[Cover]:
    """The rows [N, K] of each label; a label without rows has the middle between its vertex and the uniform row."""
    k, label = p.shape[1], label_of(p)
    rows = renormalise(p)
    middle = (torch.eye(k, dtype=torch.float64, device=p.device) + 1 / k) / 2
    return [
        Cover(rows[label == t] if bool((label == t).any()) else middle[t : t + 1]) for t in range(k)
    ]


def codewords_within(covers: Sequence[Cover], epsilon: float, margin: float) -> Tensor:
    """Each label's centers as codewords whose label leads by the margin, float32 [K, M, K]."""
    words = []
    for t, cover in enumerate(covers):
        centers = cover.within(epsilon)
        label = torch.full((len(centers),), t, dtype=torch.int64, device=centers.device)
        led = ops.project(centers, label=label, margin=least_lead(margin))
        words.append(as_dtype(led, torch.float32, label))
    return padded(words)


class ModelGuardS(Defense):
    """Answers with the first codeword of the row's label within ε (l1): few answers, so that each tells little.

    The authors minimise the mutual information of clean and served rows within ε, by a quantiser that grows: k-means
    centers of each label's rows until all of them lie within ε of one, and of several within ε the first. Theirs adds a
    codeword for a query that lies farther from all; here the codebook stays as it was fitted, so that an answer does
    not depend on earlier queries, and such a row gets the nearest codeword, beyond ε. Needs no key. Its answers are
    finite, so `mipoison.certify` bounds what any adversary learns.

    Args:
        codewords: for each label so many probability vectors of that label, float32 [K, M, K]; `ModelGuardS.fit` finds
            them.
        epsilon: which codewords are near enough, l1, in [0, 2]. No cap: see above.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for codewords of another dtype.
        ValueError: for wrong ranges, or codewords of other labels.
    """

    name: ClassVar[str] = "ModelGuard-S"
    saved: ClassVar[tuple[str, ...]] = ("epsilon",)
    parts: ClassVar[Mapping[str, Restore | None]] = {"codewords": None}
    codewords: Tensor

    def __init__(
        self,
        codewords: Any,
        *,
        epsilon: float = 0.2,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        device = codewords.device if isinstance(codewords, Tensor) else "cpu"
        words = torch.as_tensor(codewords, device=device).detach()
        require_codewords(words, "ModelGuardS.fit")
        self.register_buffer("codewords", words.clone())
        self.epsilon = as_number("epsilon", epsilon, 0.0, 2.0)

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`."""
        require_codewords(tensors["codewords"], "ModelGuardS.fit")

    @property
    def classes(self) -> int:
        """K of the codewords."""
        return self.codewords.shape[2]

    @property
    def piece(self) -> int:
        """See `Defense.piece`: each row is compared with all codewords of its label."""
        return max(1, ROWS // self.codewords.shape[1])

    @constructor
    @neutrally
    def fit(
        cls, outputs: Any, *, epsilon: float = 0.2, margin: float = 1e-3, **settings: Any
    ) -> ModelGuardS:
        """Finds the codewords of the defender's non-private outputs [N, K].

        Args:
            outputs: undefended confidence vectors; tensor or array.
            epsilon: as in `ModelGuardS`.
            margin: see `Defense`; the codewords' labels lead by it.
            settings: as in `ModelGuardS`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, rows that are no probability vectors, or an epsilon that
                needs more than 4096 codewords a label.

        Example:
            >>> p = torch.softmax(torch.randn(64, 5), 1)
            >>> len(ModelGuardS.fit(p, epsilon=2.0)(p).unique(dim=0)) <= 5
            True
        """
        reach = as_number("epsilon", epsilon, 0.0, 2.0)
        lead = as_number("margin", margin, 0.0, 1.0)
        words = codewords_within(covers_of(defender_rows(outputs)), reach, lead)
        return cls(words, epsilon=reach, margin=lead, **settings)

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        label = label_of(p)
        # Distances are sums of whole numbers, which no order of adding changes.
        distance = (units(self.codewords)[label] - units(p).unsqueeze(1)).abs().sum(2)
        near = distance <= int(self.epsilon * UNITS)
        some = near.any(1, keepdim=True)
        wanted = torch.where(some, near, distance == distance.amin(1, keepdim=True))
        number = torch.arange(wanted.shape[1], device=p.device)
        first = torch.where(wanted, number, len(number) - 1).amin(1)
        return as_dtype(renormalise(self.codewords[label, first]), p.dtype, label)

    def extra_repr(self) -> str:
        """Settings."""
        return f"epsilon={self.epsilon:g}, codewords={self.codewords.shape[1]}"
