"""The bounded move toward a vector of the same label."""

from __future__ import annotations

from torch import Tensor

from mipoison import reference
from mipoison.forked import fork_safe
from mipoison.ops import validation as check
from mipoison.ops.answers import Rows, like, refuse
from mipoison.ops.backends import pick
from mipoison.reference.move import STYLES


@fork_safe
def move(
    p: Rows,
    target: Rows,
    *,
    epsilon: float | None,
    norm: str = "l1",
    style: str = "straight",
    validate: bool = True,
    backend: str | None = None,
) -> Rows:
    """Moves each row at most ε toward a vector of the same label, and keeps the label.

    Args:
        p: probability vectors, [N, K]; see `project` for kinds and dtypes.
        target: probability vectors [N, K] of p's dtype, each with the label of its row of p.
        epsilon: radius ε ≥ 0; None moves all the way.
        norm: the ball's norm, "l1", "l2" or "linf".
        style: "straight" along the segment. In l1 also "waterfill" and "sparse", which raise by ε/2 and lower by ε/2:
            "waterfill" changes every entry up to one level, so that small ones are replaced completely, which
            removes what their logarithms tell; "sparse" replaces those that differ least from the target's and
            leaves the others (rows whose label that would lose are moved by water-filling).
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        the moved rows, [N, K] of p's kind and dtype; without derivative in any mode, since p and target are detached.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for wrong shapes and ranges, no probability vectors, or targets of another
            label.

    Example:
        >>> import mipoison as mp, torch
        >>> p, v = torch.tensor([[0.8, 0.2, 0.0]]), torch.tensor([[0.5, 0.25, 0.25]])
        >>> mp.move(p, v, epsilon=0.3)
        tensor([[0.6500, 0.2250, 0.1250]])
        >>> mp.move(p, v, epsilon=0.1, style="waterfill")
        tensor([[0.7500, 0.2250, 0.0250]])
        >>> mp.move(p, v, epsilon=0.2, style="sparse")
        tensor([[0.7000, 0.2500, 0.0500]])
    """
    rows = check.as_rows("p", p).detach()
    goal = check.same_rows("target", target, rows).detach()
    radius = check.as_epsilon(epsilon)
    check.as_choice("norm", norm, check.NORMS)
    check.as_choice("style", style, STYLES)
    if style != "straight" and norm != "l1":
        raise ValueError(f"expected norm 'l1' with style {style!r}, got {norm!r}")
    q, status = pick("move", backend, rows)(rows, goal, radius, norm, style)
    if check.as_flag("validate", validate):
        refuse(
            status,
            lambda: check.require_probabilities("p", rows),
            lambda: check.require_probabilities("target", goal),
            lambda: _check_same_label(rows, goal),
        )
    return like(q, p)


def _check_same_label(p: Tensor, target: Tensor) -> None:
    """Raises ValueError naming the rows whose target has another label."""
    other = reference.label_of(p) != reference.label_of(target)
    if bool(other.any()):
        raise ValueError(
            f"expected target to have the label of p, got another in {check.name_rows(other)}"
        )
