"""Cutoff: wipes the entries below a label's own cutoff in every row, and rounds the others to one step."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses.clean import as_dtype
from mipoison.defenses.lead import least_lead
from mipoison.defenses.lpa.aim import Aim
from mipoison.defenses.lpa.frontier import FARTHEST, within_reach
from mipoison.defenses.lpa.objective import Objective
from mipoison.defenses.pieces import ROWS
from mipoison.defenses.saving import numbers_of
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_flag, as_number
from mipoison.progress import Progress
from mipoison.reference.rounding import at, put

# The share of the budget that rounding the remaining entries spends, and its least part near what labels alone spend.
_ROUNDED: Final = 0.01
_LEAST_ROUNDED: Final = 0.1
# Worths are trusted up to this share of what labels alone spend, and from the second on not at all.
_TRUSTED: Final = 1 / 2, 5 / 6
# Cutoffs and steps from which the search starts, and how often it halves the interval, on a logarithmic axis.
_LEAST: Final = 1e-9
_HALVINGS: Final = 40
# The search ends this near to a change of answers. Cutoffs and step are then put between changes, at most this share
# lower.
_NEAR: Final = 1e-9
_ROOM: Final = 0.01
# What hiding a row of one label is worth differs from the mean over labels by this factor at most.
_APART: Final = 4.0
# The least share of a label's variance that unconfident rows are taken to tell.
_TOLD: Final = 0.01
# Rounding of an answer; a cast to bfloat16 takes less of a lead than `least_lead` adds, by more than this.
_SLACK: Final = 1e-5


class Cutoff(Objective):
    """Answers with the entries that reach the cutoff of the row's label, rounded to one step; the label has the rest.

    A confident classifier tells the most in small entries of every row, which cost almost nothing to wipe. It then
    still shows which rows are unconfident. The budget goes where it hides the most: a label's cutoff is proportional to
    `worths`, what its unconfident rows tell of the inputs. The answers are finitely many, so `mipoison.certify` bounds
    what every adversary learns. Serving needs no network, no bank and no key.

    Args:
        cutoffs: of each label, float64 [K], ≥ 0.
        step: what entries are rounded to multiples of, in (0, 1].
        lead: by how much the label leads in every answer, in [0, 1].
        keyed: whether the defense has a key all the same, because it was chosen in place of one that needs it.
    """

    name: ClassVar[str] = "cutoff"
    may_stay: ClassVar[bool] = True
    epsilon: ClassVar[float] = FARTHEST
    piece: ClassVar[int] = ROWS
    keyed: bool = False
    cutoffs: Tensor

    def __init__(self, cutoffs: Tensor, *, step: float, lead: float, keyed: bool = False) -> None:
        super().__init__()
        _require_cutoffs(cutoffs)
        self.register_buffer("cutoffs", cutoffs.clone())
        self.step = as_number("step", step, 0.0, 1.0, open_low=True)
        self.lead = as_number("lead", lead, 0.0, 1.0)
        self.keyed = as_flag("keyed", keyed)

    def check_state(self, tensors: Mapping[str, Tensor]) -> None:
        """See `DtypeStable.check_state`."""
        _require_cutoffs(tensors["cutoffs"])

    def check_margin(self, margin: float) -> None:
        """See `Objective.check_margin`."""
        needed = least_lead(margin)
        if self.lead < needed - _SLACK:
            raise ValueError(
                f"expected answers whose label leads by {needed:.4g} for margin={margin:g}, got {self.lead:.4g}; fit "
                "them with that margin, or answers would differ from row to row"
            )

    def leads(self, margin: float, epsilon: float) -> bool:
        """See `Defense.leads`."""
        needed = least_lead(margin)
        return needed < 1 and self.lead >= needed - _SLACK and epsilon >= FARTHEST

    @property
    def classes(self) -> int:
        """K of the data it was fitted on."""
        return len(self.cutoffs)

    @classmethod
    def fit(
        cls, rows: Tensor, inputs: Tensor, groups: Tensor | None, aim: Aim, progress: Progress
    ) -> Cutoff:
        """Sets cutoffs and step on the defender's rows [N, K] and their inputs [N, ...].

        Args:
            rows: clean rows.
            inputs: what produced them.
            groups: int64 [N]: rows of one number are copies of one input.
            aim: with a budget. Where the labels themselves spend less, they are all that is answered.
            progress: told how much is done.
        """
        assert aim.budget is not None
        budget, single = aim.budget, as_dtype(rows, torch.float32)
        # The nearer the budget comes to what labels alone spend, the fewer rows are left to choose among, and the more
        # estimates from few rows cost: there one cutoff is common to all labels, and little is rounded.
        labels = float(2 * (1 - single.amax(1).double()).mean())
        most, none = _TRUSTED
        trust = min(1.0, max(0.0, (none - budget / max(labels, _LEAST)) / (none - most)))
        rounded = _ROUNDED * max(trust, _LEAST_ROUNDED) * budget
        worth = worths(single, inputs.flatten(1), groups, unconfident=budget) ** trust
        lead = min(1.0, least_lead(aim.margin) + 1e-6)

        def made(scale: float, step: float) -> Cutoff:
            return cls((scale * worth).clamp_max(1.0), step=step, lead=lead)

        def answers(scale: float, step: float) -> Tensor:
            return made(scale, step).poison(single, key=None, epsilon=aim.epsilon, norm=aim.norm)

        def apart(scale: float, step: float, others: Tensor) -> float:
            return float((answers(scale, step) - others).abs().sum(1).double().mean())

        # The step changes little of what a cutoff spends, and is no larger, so that it wipes little: two passes settle
        # both.
        step = _LEAST
        for i in range(2):
            widest = 1.0 / float(worth.min())
            scale = _last(
                lambda scale, step=step: apart(scale, step, single) <= budget, _LEAST, widest
            )
            scale = _between(scale, _wiped_at(single, worth), _ROOM)
            exact = answers(scale, _LEAST)
            step = _last(
                lambda step, scale=scale, exact=exact: apart(scale, step, exact) <= rounded,
                *(_LEAST, min(1.0, scale)),
            )
            step = _between(step, *_rounded_at(exact, step))
            progress((i + 1) / 2)
        fitted = made(scale, step)
        fitted.realised = apart(scale, step, single)
        return fitted

    def poison(self, p: Tensor, *, key: Any, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`. A row that its answer is out of reach of goes as far as it may."""
        label = label_of(p)
        cutoff = self.cutoffs[label].unsqueeze(1)
        wide = p.to(torch.float64)
        steps = torch.where(wide < cutoff, 0.0, (wide / self.step).round())
        # Whole numbers, whose sum is exact in any order.
        steps = put(steps, label, 0.0)
        rivals = steps * self.step
        q = put(rivals, label, 1.0 - steps.sum(1) * self.step)
        nearest = ops.project(q, label=label, margin=self.lead, validate=False)
        # Zeros stay zeros: the projection spreads the rounding error of the sum over them.
        leads = at(q, label) - rivals.amax(1) >= self.lead
        q = torch.where(leads.unsqueeze(1), q, nearest)
        # In float32 first, so that rows of every dtype have the same answers. (In float64 these would not sum to one.)
        narrow = p.dtype != torch.float64
        target = as_dtype(q, torch.float32, label).to(p.dtype) if narrow else q
        return within_reach(p, target, epsilon, norm)

    def get_extra_state(self) -> Tensor:
        """The numbers that a state_dict carries beside its tensors: step and lead."""
        return torch.tensor([self.step, self.lead], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: for anything else.
        """
        step, lead = numbers_of(state, ("step", "lead"))
        step, lead = (
            as_number("step", step, 0.0, 1.0, open_low=True),
            as_number("lead", lead, 0.0, 1.0),
        )
        self.step, self.lead = step, lead

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | {"step": self.step, "lead": self.lead, "keyed": self.keyed}

    @classmethod
    def restore(cls, settings: dict[str, Any], tensors: dict[str, Tensor]) -> Cutoff:
        """See `Objective.restore`."""
        chosen = {name: settings[name] for name in ("step", "lead", "keyed")}
        return cls(tensors["cutoffs"], **chosen)


def worths(rows: Tensor, inputs: Tensor, groups: Tensor | None, *, unconfident: float) -> Tensor:
    """What hiding an unconfident row of each label is worth, relative to the mean over labels; float64 [K].

    It is the squared distance between the mean inputs of a label's unconfident and confident rows, less what so few
    rows differ by chance. With few rows it is drawn toward what all labels share: one share of each label's variance.

    Args:
        rows: float32 [N, K].
        inputs: [N, D].
        groups: int64 [N]: rows of one number are copies of one input, which count as one.
        unconfident: a row is when its other entries sum to so much.
    """
    k, label = rows.shape[1], label_of(rows)
    low = (1 - rows.amax(1).double() >= unconfident).to(torch.int64)
    cell = 2 * label + low
    if groups is not None:
        members, index = torch.stack((groups, cell), 1).unique(dim=0, return_inverse=True)
        inputs, cell = _means(inputs.double(), index, len(members))[0], members[:, 1]
    means, count = _means(inputs.double(), cell, 2 * k)
    off = (inputs.double() - means[cell]).square().sum(1)
    within = torch.zeros_like(count).scatter_add(0, cell, off).view(k, 2).sum(1)
    count = count.view(k, 2)
    free = (count - 1).clamp_min(0).sum(1)
    variance = within / free.clamp_min(1)
    known = (free > 0) & (variance > 0)
    if not bool(known.any()):
        return torch.ones_like(variance)
    variance = torch.where(known, variance, variance[known].mean())
    apart = (means.view(k, 2, -1)[:, 0] - means.view(k, 2, -1)[:, 1]).square().sum(1)
    both = count.amin(1) > 0
    chance = variance * (1 / count.clamp_min(1)).sum(1)
    apart = torch.where(both, apart - chance, 0.0)
    several = torch.where(both, count[:, 1], 0.0)
    told = (several * apart).sum() / (several * variance).sum().clamp_min(1e-300)
    told = told.clamp(_TOLD, 1.0)
    shared = told * variance
    worth = (several * apart + shared / told) / (several + 1 / told)
    worth = worth.clamp(shared / _APART, shared * _APART)
    relative: Tensor = worth / worth.mean()
    return relative


def _means(values: Tensor, cell: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Mean [cells, D] and number [cells] of the values [n, D] in each cell; float64."""
    count = torch.bincount(cell, minlength=cells).double()
    total = values.new_zeros((cells, values.shape[1])).index_add(0, cell, values)
    return total / count.clamp_min(1).unsqueeze(1), count


def _last(holds: Any, low: float, high: float) -> float:
    """The largest number between two at which it holds, by bisection on a logarithmic axis."""
    if holds(high):
        return high
    for _ in range(_HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def _between(found: float, changes: Tensor, room: float) -> float:
    """A number a little below one, as far from all changes as there is room: last bits of rows decide nothing then.

    Args:
        found: the largest number before an answer changes too much, so that a change is next to it.
        changes: where answers change, any shape; those within the room are all there.
        room: how much less it may be, as a share.
    """
    least, most = found * (1 - room), found * (1 + _NEAR)
    near = changes[(changes > least) & (changes <= most)].sort().values
    edges = torch.cat((near.new_tensor([least]), near)).log()
    if len(edges) == 1:
        return found
    widest = int(edges.diff().argmax())
    return math.exp(float(edges[widest : widest + 2].mean()))


def _wiped_at(rows: Tensor, worth: Tensor) -> Tensor:
    """The scales of the cutoffs at which one more entry of the rows [N, K] is wiped."""
    label = label_of(rows)
    return put(rows.double(), label, 0.0) / worth[label].unsqueeze(1)


def _rounded_at(rows: Tensor, step: float) -> tuple[Tensor, float]:
    """The steps next to one at which entries of the rows [N, K] are rounded to another number of them, and the room.

    Within the room an entry changes twice at most.
    """
    rivals = put(rows.double(), label_of(rows), 0.0)
    halves = (rivals / step - 0.5).round() + 0.5
    changes = rivals / torch.stack((halves, halves + 1)).clamp_min(0.5)
    return changes, min(_ROOM, step / max(float(rivals.max()), step))


def _require_cutoffs(cutoffs: Tensor) -> None:
    """Raises ValueError unless there is one of each label, none of them negative."""
    if cutoffs.ndim != 1 or len(cutoffs) == 0:
        raise ValueError(f"expected cutoffs [K], got {tuple(cutoffs.shape)}; use mp.LPA.fit")
    if cutoffs.dtype != torch.float64:
        raise TypeError(f"expected cutoffs of float64, got {cutoffs.dtype}; use .double()")
    if not bool(((cutoffs >= 0) & (cutoffs <= 1)).all()):
        raise ValueError("expected cutoffs in [0, 1], got others; use mp.LPA.fit")
