"""Small networks on rows: what they recover, and steps along the gradient of that."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final

from torch import Tensor

from mipoison import reference
from mipoison.forked import fork_safe
from mipoison.ops import validation as check
from mipoison.ops.answers import Rows, like, refuse
from mipoison.ops.arrays import as_float32
from mipoison.ops.backends import pick
from mipoison.ops.destination import as_destination, overwrites, require_apart
from mipoison.ops.projection import Region
from mipoison.ops.unchecked import Networks

# The longest step.
_LONGEST: Final = 1e12


@fork_safe
def recover(
    p: Rows, network: Networks, *, validate: bool = True, backend: str | None = None
) -> Rows:
    """G(p): what small networks on [p, log p] recover from each row, in one pass.

    Every sum has one order, so that a row's bits depend neither on the rows beside it nor on the number of threads.

    Args:
        p: probability vectors, [N, K]; see `project` for kinds and dtypes.
        network: G, a fitted `Surrogate` of K classes on p's device.
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        coefficients of `Surrogate.basis`, float32 [N, C] of p's kind, without derivative in any mode
        (`Surrogate.gradient` has one). With validate=False rows that are no probability vectors get zeros, and rows at
        which the network overflows NaN.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for wrong shapes, rows that are no probability vectors (names them), or a network of another K.

    Example:
        >>> import mipoison as mp, torch
        >>> p, x = torch.softmax(torch.randn(64, 5), 1), torch.rand(64, 8, 8)
        >>> surrogate = mp.Surrogate.fit(p, x, epochs=1, components=3)
        >>> mp.recover(p[:2], surrogate).shape
        torch.Size([2, 3])
    """
    rows = check.as_rows("p", p).detach()
    _require_network(network, rows)
    found, status = pick("recover", backend, rows)(
        rows, network.packed, network.members, network.width, network.outputs
    )
    if check.as_flag("validate", validate):
        refuse(
            status,
            lambda: check.require_probabilities("p", rows),
            lambda: _require_in_range(rows, network),
        )
    return like(found, p)


@fork_safe
def perturb(
    p: Rows,
    goal: Any,
    network: Networks,
    *,
    steps: int,
    alpha: float,
    center: Rows | None = None,
    epsilon: float | None = None,
    norm: str = "l1",
    margin: float = 0.0,
    shrink: bool = False,
    near: Any = None,
    smooth: bool = False,
    out: Rows | None = None,
    validate: bool = True,
    backend: str | None = None,
) -> Rows:
    """Surrogate-gradient perturbation: q ← project(q − α·∇/‖∇‖₂) repeated, with ∇ = ∇_q ½‖G(q) − goal‖², from q = p.

    Forward, backward and projected step of the networks G in one pass over memory. Each step is that of `step`, with
    center and label fixed: labels and ball hold after every step.

    Args:
        p: where the rows start, probability vectors [N, K]; see `project` for kinds and dtypes.
        goal: what is to be recovered from them, float32 [N, C], C no more than the network's coefficients.
        network: G, a fitted `Surrogate` of K classes on p's device.
        steps: how many, ≥ 1.
        alpha: length of a step in l2, in [−1e12, 1e12]; negative: away from the goal.
        center: probability vectors [N, K] whose labels are kept and around which the ball lies; default: p.
        epsilon: radius ε ≥ 0 of the ball around center; None for no ball.
        norm: as in `project`.
        margin: as in `project`.
        shrink: as in `project`.
        near: distances > 0, float32 [N]: where ‖G(q) − goal‖ is less, a step is shortened in proportion, since there
            it follows rounding; p is projected first. Default: all steps have full length.
        smooth: take derivatives of the logarithm and of ReLU that do not jump, so that a step does not depend on a
            row's last bits.
        out: as in `project`; it may be p or center itself.
        validate: as in `project`.
        backend: as in `project`.

    Returns:
        the rows after all steps, [N, K] of p's kind and dtype, without derivative in any mode. With validate=False
        refused rows get the safe answer of center.

    Raises:
        TypeError: for a wrong kind or dtype.
        ValueError: for wrong shapes and ranges, rows that are no probability vectors, goals that are not finite, empty
            sets (names the rows), or a network of another K.

    Example:
        >>> import mipoison as mp, torch
        >>> p, x = torch.softmax(torch.randn(64, 5), 1), torch.rand(64, 8, 8)
        >>> surrogate = mp.Surrogate.fit(p, x, epochs=1)
        >>> goal = surrogate(p.flip(0))
        >>> q = mp.perturb(p, goal, surrogate, steps=4, alpha=0.05, epsilon=0.2)
        >>> bool((q.argmax(1) == p.argmax(1)).all()), bool(((q - p).abs().sum(1) < 0.2001).all())
        (True, True)
    """
    rows: Tensor = check.as_rows("p", p).detach()
    _require_network(network, rows)
    wanted: Tensor = as_float32("goal", goal, rows)
    if wanted.ndim != 2 or len(wanted) != len(rows) or not 1 <= wanted.shape[1] <= network.outputs:
        raise ValueError(
            f"expected goal of shape ({len(rows)}, C), 1 <= C <= {network.outputs}, got {tuple(wanted.shape)}"
        )
    least: Tensor | None = None if near is None else as_float32("near", near, rows)
    if least is not None and least.shape != rows.shape[:1]:
        raise ValueError(
            f"expected near of shape ({len(rows)},), a distance for each row, got {tuple(least.shape)}"
        )
    region: Region = Region.of(
        rows, p if center is None else center, None, epsilon, norm, margin, shrink
    )
    arguments: tuple[Any, ...] = (
        *(rows, wanted, network.packed, network.members, network.width, region.p, least),
        check.as_count("steps", steps, 1),
        check.as_number("alpha", alpha, -_LONGEST, _LONGEST),
        *region.after(),
        check.as_flag("smooth", smooth),
    )
    checks: tuple[Callable[[], None], ...] = (
        lambda: check.require_probabilities("p", rows),
        lambda: check.require_finite("goal", wanted),
        functools.partial(_require_positive, least),
        region.check,
        lambda: _require_in_range(rows, network),
    )
    overwritten = False
    if out is not None:
        into = as_destination(out, p, rows)
        require_apart(into, network=network.packed, goal=wanted, near=least)
        overwritten = overwrites(into, p=rows, center=region.p)
        status = pick("perturb_out", backend, rows)(*arguments, into)
    else:
        q, status = pick("perturb", backend, rows)(*arguments)
    if check.as_flag("validate", validate):
        refuse(status, *checks, overwritten=overwritten)
    return like(q, p) if out is None else out


def _require_network(network: Any, rows: Tensor) -> None:
    """Raises where it is no network of the rows' K on their device."""
    packed = getattr(network, "packed", None)
    if not isinstance(packed, Tensor):
        raise TypeError(
            f"expected network to be a mipoison Surrogate, got {type(network).__name__}; mp.Surrogate.fit makes one"
        )
    classes = getattr(network, "classes", rows.shape[1])
    if classes != rows.shape[1]:
        raise ValueError(
            f"expected p with K={classes} classes, as the network was fitted on, got K={rows.shape[1]}"
        )
    if packed.device != rows.device:
        raise ValueError(
            f"expected network on {rows.device}, got {packed.device}; use network.to({str(rows.device)!r})"
        )


def _require_positive(near: Tensor | None) -> None:
    """Raises ValueError naming the rows whose distance is none."""
    if near is None:
        return
    bad = ~((near > 0) & near.isfinite())
    if bool(bad.any()):
        raise ValueError(f"expected near > 0 and finite, got others in {check.name_rows(bad)}")


def _require_in_range(p: Tensor, network: Networks) -> None:
    """Raises ValueError naming the rows at which the network's numbers overflow."""
    sizes = network.members, network.width, network.outputs
    bad = ~reference.recover(p, network.packed, *sizes)[1]
    if bool(bad.any()):
        raise ValueError(
            f"expected a network whose numbers stay within float32, got overflow in {check.name_rows(bad)}; scale the "
            "inputs down that it was fitted on"
        )
