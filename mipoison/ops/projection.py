"""Projection onto the set of allowed answers, and the fused gradient step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
from torch import Tensor

from mipoison import reference
from mipoison.forked import fork_safe
from mipoison.ops import validation as check
from mipoison.ops.answers import Labels, Rows, like, refuse
from mipoison.ops.backends import pick
from mipoison.ops.destination import as_destination, overwrites

_Checks: TypeAlias = tuple[Callable[[], None], ...]


@dataclass(frozen=True)
class Region:
    """C(p, t, ε, m), its arguments checked."""

    rows: Tensor
    p: Tensor | None
    t: Tensor | None
    epsilon: float | None
    norm: str
    margin: float
    shrink: bool

    @classmethod
    def of(
        cls,
        rows: Tensor,
        center: Any,
        label: Labels,
        epsilon: float | None,
        norm: str,
        margin: float,
        shrink: bool,
    ) -> Region:
        """Checks the arguments that `project` and `step` share."""
        if center is None and epsilon is not None:
            raise ValueError(
                "expected center together with epsilon, got none; pass center=p, or epsilon=None"
            )
        if check.as_flag("shrink", shrink) and center is None:
            raise ValueError(
                "expected center together with shrink=True, got none: the margin is lowered to the lead of its label; "
                "pass center=p, or shrink=False"
            )
        return cls(
            rows=rows,
            p=None if center is None else check.same_rows("center", center, rows).detach(),
            t=None if label is None else check.as_labels("label", label, rows),
            epsilon=check.as_epsilon(epsilon),
            norm=check.as_choice("norm", norm, check.NORMS),
            margin=check.as_number("margin", margin, 0.0, 1.0),
            shrink=bool(shrink),
        )

    def before(self) -> tuple[Tensor | None, Tensor | None]:
        """The operator arguments p, t."""
        return self.p, self.t

    def after(self) -> tuple[float | None, str, float, bool]:
        """The operator arguments ε, norm, m, shrink."""
        return self.epsilon, self.norm, self.margin, self.shrink

    def check(self) -> None:
        """Raises ValueError naming the rows with a wrong label, a wrong center or an empty set."""
        if self.t is not None:
            check.require_range("label", self.t, 0, self.rows.shape[1])
        if self.p is None:
            return
        check.require_probabilities("center", self.p)
        if self.epsilon is None:
            return
        origin = torch.zeros_like(self.p)
        *_, valid = reference.prepare(
            origin, self.p, self.t, self.epsilon, self.norm, self.margin, self.shrink
        )
        if not bool(valid.all()):
            raise ValueError(
                f"expected center to lie within epsilon={self.epsilon:g} ({self.norm}) of a vector whose "
                f"label leads by margin={self.margin:g}, got an empty set in "
                f"{check.name_rows(~valid)}; raise epsilon, lower margin or pass shrink=True"
            )


@fork_safe
def project(
    z: Rows,
    *,
    center: Rows | None = None,
    label: Labels = None,
    epsilon: float | None = None,
    norm: str = "l1",
    margin: float = 0.0,
    shrink: bool = False,
    out: Rows | None = None,
    validate: bool = True,
    backend: str | None = None,
) -> Rows:
    r"""Argmin ‖q − z‖² subject to Σq = 1, q ≥ 0, q_t ≥ q_j + m for all j ≠ t, ‖q − p‖ ≤ ε.

    The exact Euclidean projection of each row of z onto the vectors near p whose label is t.
    Differentiable in z in closed form, in reverse and in forward mode and under the transforms of `torch.func`; p and t
    are constants. Second derivatives are zero, except in an l2 ball, where they are refused. Under `torch.vmap` pass
    validate=False.

    Args:
        z: points to project, within ±1e15, [N, K], K ≥ 2; float32, float64, float16 or bfloat16; tensor,
            array, or what `numpy.asarray` takes.
        center: p, probability vectors [N, K] of z's dtype; renormalised first. Needed with epsilon.
        label: t, the label that must win, integers [N] in [0, K). Default: the label of center, or
            of z.
        epsilon: radius ε ≥ 0 of the ball around center; None for no ball.
        norm: the ball's norm, "l1", "l2" or "linf".
        margin: m in [0, 1], by which the label must lead.
        shrink: lower each row's margin to the lead of its label in center, so that no set is empty. Needs center.
        out: where q is written, of z's kind, shape, dtype and device, and returned. It may be z or center itself,
            but must not overlap one in part. Contiguous rows are written directly, others through a new
            tensor. Without derivative: a z that requires grad or has a tangent is refused, as torch does, and so is
            out under `torch.func`.
        validate: read the count of refused rows and raise. With False nothing is read back and
            refused rows get the safe answer: one-hot at the label where the row is finite, else
            uniform. With out they get it in any case, and stand there when the error is raised.
        backend: None follows the device; "reference", "cpp" or "triton" force one.

    Returns:
        q, [N, K] of z's dtype: the label strict, sums and ball to rounding. A tensor for a tensor or a list of
        tensors, an ndarray for everything else (arrays, DataFrames, lists of lists, which count as float64).

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for wrong shapes and ranges, rows that are no probability vectors, empty sets;
            names the rows.

    Example:
        >>> import mipoison as mp, torch
        >>> mp.project(torch.tensor([[2.0, 0.0, 1.0]]), label=[2])
        tensor([[0.5000, 0.0000, 0.5000]])
        >>> z = torch.tensor([[2.0, 0.0, 1.0]])
        >>> mp.project(z, out=z) is z
        True
        >>> z
        tensor([[1., 0., 0.]])
    """
    points = check.as_rows("z", z)
    feasible: Region = Region.of(points, center, label, epsilon, norm, margin, shrink)
    arguments = (points, *feasible.before(), *feasible.after())
    checks: _Checks = (lambda: check.require_near("z", points), feasible.check)
    if out is not None:
        into = as_destination(out, z, points)
        overwritten = overwrites(into, z=points, center=feasible.p, label=feasible.t)
        status = pick("project_out", backend, points)(*arguments, into)
        if check.as_flag("validate", validate):
            refuse(status, *checks, overwritten=overwritten)
        return out
    q, status = pick("project", backend, points)(*arguments)
    if check.as_flag("validate", validate):
        refuse(status, *checks)
    return like(q, z)


@fork_safe
def step(
    q: Rows,
    g: Rows,
    *,
    center: Rows | None = None,
    label: Labels = None,
    alpha: float,
    epsilon: float | None = None,
    norm: str = "l1",
    margin: float = 0.0,
    shrink: bool = False,
    out: Rows | None = None,
    validate: bool = True,
    backend: str | None = None,
) -> Rows:
    """project(q + α·g/‖g‖₂): one step of projected ascent along g, in one pass over memory.

    Args:
        q: current rows, [N, K]; see `project` for kinds and dtypes.
        g: directions, [N, K] of q's dtype; a row of zeros does not move.
        center: p, probability vectors [N, K]; default: none, then epsilon must be None.
        label: t, integers [N]; default: the label of center, or of q.
        alpha: step length in l2, in [0, 1e12].
        epsilon: as in `project`.
        norm: as in `project`.
        margin: as in `project`.
        shrink: as in `project`.
        out: as in `project`; it may be q, g or center itself.
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        the stepped rows, [N, K] of q's kind and dtype; without derivative in any mode, since q and g are detached
        (use `project` for one).

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: as `project`.

    Example:
        >>> import mipoison as mp, torch
        >>> p = torch.tensor([[0.6, 0.3, 0.1]])
        >>> mp.step(p, torch.tensor([[0.0, 1.0, 0.0]]), center=p, alpha=1.0, epsilon=0.2)
        tensor([[0.5500, 0.4000, 0.0500]])
        >>> q = torch.empty_like(p)
        >>> mp.step(p, torch.tensor([[0.0, 1.0, 0.0]]), center=p, alpha=1.0, epsilon=0.2, out=q)
        tensor([[0.5500, 0.4000, 0.0500]])
    """
    rows = check.as_rows("q", q).detach()
    direction = check.same_rows("g", g, rows).detach()
    feasible: Region = Region.of(rows, center, label, epsilon, norm, margin, shrink)
    length = check.as_number("alpha", alpha, 0.0, 1e12)
    arguments = (rows, direction, *feasible.before(), length, *feasible.after())
    checks: _Checks = (
        lambda: check.require_near("q", rows),
        lambda: check.require_finite("g", direction),
        feasible.check,
    )
    if out is not None:
        into = as_destination(out, q, rows)
        overwritten = overwrites(into, q=rows, g=direction, center=feasible.p, label=feasible.t)
        status = pick("step_out", backend, rows)(*arguments, into)
        if check.as_flag("validate", validate):
            refuse(status, *checks, overwritten=overwritten)
        return out
    result, status = pick("step", backend, rows)(*arguments)
    if check.as_flag("validate", validate):
        refuse(status, *checks)
    return like(result, q)
