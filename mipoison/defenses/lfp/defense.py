"""LFP: label-flipping poisoning of a small subset of output vectors (arXiv 2412.07575)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor

from mipoison import ops
from mipoison.construction import constructor
from mipoison.defenses.base import Defense
from mipoison.defenses.clean import defender_rows
from mipoison.defenses.lfp.audit import Audit
from mipoison.defenses.lfp.selection import (
    ROWS,
    as_ceiling,
    as_means,
    label_means,
    leaks,
    margins,
    pool,
)
from mipoison.defenses.lfp.targets import TARGETS, runner_up, surrogate_worst
from mipoison.defenses.pieces import NETWORKS, pieces
from mipoison.defenses.saving import Restore, numbers_of
from mipoison.keys import Key, KeyLike, resolve_key
from mipoison.neutral import neutrally
from mipoison.ops.answers import Rows
from mipoison.ops.rows import label_of
from mipoison.ops.validation import (
    as_choice,
    as_flag,
    as_inputs,
    as_number,
    as_part,
    as_rows,
    as_seed,
)
from mipoison.reference import valid_rows
from mipoison.surrogate import Surrogate

# Share of the rows that the surrogate is trained on; the others set the threshold of the leak.
_TRAINED: Final = 2 / 3
# Fewer rows than this are not split: all train the surrogate and set the threshold.
_FEWEST: Final = 12


def _require(name: str, value: Any, used: bool, rows: str, targets: str) -> None:
    """Raises ValueError where the choices need a value that is missing, or have no use for one that is given."""
    if used and value is None:
        raise ValueError(
            f"expected a {name} with rows={rows!r} and targets={targets!r}, got none; use LFP.fit"
        )
    if value is not None and not used:
        raise ValueError(
            f"expected no {name} with rows={rows!r} and targets={targets!r}, got one; leave it out, or use LFP.fit"
        )


class LFP(Defense):
    """Serves a small share of the rows under another label.

    It costs about its rate in accuracy and protects little beyond the flipped rows. The choice is a
    function of (key, row), so a repeated query gets the same answer, and the rate is over the rows that
    the key distinguishes (see `mipoison.row_bits`). With two classes these are only 600 to 1300, since
    a row is one number: over 30 keys a rate of .05 was realised as .025 to .1 (10,000 rows, standard
    deviation .018).

    Args:
        rate: share of rows flipped, in [0, 1].
        rows: which rows are candidates. "random": all. Through `LFP.fit`, which sets the threshold,
            "margin": those of lowest margin; "leak": those that tell the surrogate most beyond their
            label.
        max_rate: hard ceiling in (0, 1] on the probability with which the key flips any row. It
            bounds the expected share of flipped distinct rows for any traffic, however unlike the
            rows of `fit`. A lower ceiling makes `fit` use more candidates.
        targets: the new label. "random": by key; "runner_up": the second largest entry;
            "surrogate": the label that misleads the surrogate most.
        style: "swap" or "project", see `mipoison.flip`.
        surrogate: needed with targets="surrogate" or rows="leak", and refused otherwise.
        threshold: rows whose margin, or whose negated leak, is at most this are candidates; needed
            unless rows="random", and refused there.
        share: the keyed probability, at most max_rate, with which a candidate is flipped; default
            1. Refused with rows="random", where it is the rate.
        means: mean recovery of the surrogate for each label, [K, C]; needed with rows="leak", and
            refused otherwise.
        audit: whether to count flips in `audit`, which reads the labels back.
        key: see `LPA`.
        on_invalid: see `Defense`.
        margin: see `Defense`.

    Raises:
        TypeError: for a setting or a key of a wrong kind.
        ValueError: for a setting out of its range, or a key of few bytes or of bytes that repeat themselves.
    """

    name: ClassVar[str] = "LFP"
    keeps_labels: ClassVar[bool] = False
    saved: ClassVar[tuple[str, ...]] = (
        *("rate", "rows", "targets", "style", "max_rate", "threshold", "share", "audit"),
    )
    parts: ClassVar[Mapping[str, Restore | None]] = {
        "surrogate": Surrogate.restore,
        "means": None,
    }
    means: Tensor | None

    def __init__(
        self,
        *,
        rate: float = 0.01,
        rows: str = "random",
        targets: str = "random",
        style: str = "swap",
        max_rate: float = 1.0,
        surrogate: Surrogate | None = None,
        threshold: float | None = None,
        share: float | None = None,
        means: Tensor | None = None,
        audit: bool = False,
        key: KeyLike = None,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.rate = as_number("rate", rate, 0.0, 1.0)
        self.max_rate = as_ceiling(max_rate, self.rate)
        self.rows = as_choice("rows", rows, ROWS)
        self.targets = as_choice("targets", targets, TARGETS)
        self.style = as_choice("style", style, ("swap", "project"))
        chosen = rows != "random"
        _require("surrogate", surrogate, targets == "surrogate" or rows == "leak", rows, targets)
        _require("threshold", threshold, chosen, rows, targets)
        _require("means", means, rows == "leak", rows, targets)
        if not chosen:
            _require("share", share, False, rows, targets)
        given = self.rate if not chosen else 1.0 if share is None else share
        self.share = as_number("share", given, 0.0, 1.0)
        if self.share > self.max_rate:
            raise ValueError(
                f"expected share <= max_rate={self.max_rate:g}, got {self.share:g}; use LFP.fit"
            )
        self.surrogate = (
            None
            if surrogate is None
            else as_part("surrogate", surrogate, Surrogate, "mp.Surrogate.fit")
        )
        if self.surrogate is not None and means is not None:
            means = as_means(means, self.surrogate)
        self.register_buffer("means", means)
        self.threshold = None if threshold is None else as_number("threshold", threshold, -math.inf)
        self.audit = Audit() if as_flag("audit", audit) else None
        self._key: Key = resolve_key(key)

    def _begin_counts(self) -> None:
        super()._begin_counts()
        if self.audit is not None:
            self.audit = Audit()

    @property
    def classes(self) -> int | None:
        """K of the surrogate, if it has one."""
        return None if self.surrogate is None else self.surrogate.classes

    @constructor
    @neutrally
    def fit(
        cls,
        outputs: Any,
        inputs: Any = None,
        *,
        rate: float = 0.01,
        rows: str = "margin",
        targets: str = "surrogate",
        style: str = "swap",
        max_rate: float = 1.0,
        audit: bool = False,
        key: KeyLike = None,
        seed: int = 0,
        on_invalid: str = "raise",
        margin: float = 1e-3,
    ) -> LFP:
        """Sets the threshold on held-out rows and trains the surrogate, where the choices need them.

        The rate is met in expectation on fresh distinct rows like the given ones. With fewer rows to set
        the threshold on, more rows become candidates, and the key flips a smaller share of them.

        Args:
            outputs: undefended confidence vectors of the defender's own data, [N, K]. They must be
                rows that the classifier was not trained on: it is more confident on its training
                rows than on fresh ones.
            inputs: the inputs that produced them, [N, ...]; needed with targets="surrogate" or
                rows="leak", and otherwise only checked. With rows="leak" the surrogate is trained
                on two thirds of the rows and the threshold is set on the others.
            rate: share of distinct rows to flip, in [0, 1].
            rows: see `LFP`.
            targets: see `LFP`.
            style: see `LFP`.
            max_rate: see `LFP`.
            audit: see `LFP`.
            key: see `LFP`.
            seed: of the surrogate's training.
            on_invalid: see `Defense`.
            margin: see `Defense`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes or ranges, no rows, or rows that are no probability
                vectors.
        """
        # Made for its checks: a wrong setting is found before anything is trained.
        plain = cls(
            rate=rate,
            style=style,
            max_rate=max_rate,
            audit=audit,
            key=key,
            on_invalid=on_invalid,
            margin=margin,
        )
        as_choice("targets", targets, TARGETS)
        as_choice("rows", rows, ROWS)
        seed = as_seed(seed)
        wanted, ceiling = plain.rate, plain.max_rate
        p = defender_rows(outputs)
        x = None if inputs is None else as_inputs(inputs, p)
        surrogate, threshold, share, means = None, None, None, None
        held_out = p
        if targets == "surrogate" or rows == "leak":
            if x is None:
                raise ValueError(
                    "expected inputs with targets='surrogate' or rows='leak', got none; pass what produced the outputs"
                )
            if rows == "leak" and len(p) >= _FEWEST:
                generator = torch.Generator().manual_seed(seed)
                order = torch.randperm(len(p), generator=generator, device="cpu").to(p.device)
                trained, rest = order.tensor_split([round(_TRAINED * len(p))])
                p, held_out, x = p[trained], p[rest], x[trained]
            surrogate = Surrogate.fit(p, x, seed=seed)
        distinct = torch.unique(held_out.to(torch.float64), dim=0)
        if rows == "margin":
            threshold, share = pool(margins(distinct), wanted, ceiling)
        if rows == "leak" and surrogate is not None:
            means = label_means(p, surrogate)
            threshold, share = pool(-leaks(distinct, surrogate, means), wanted, ceiling)
        return cls(
            rate=wanted,
            rows=rows,
            targets=targets,
            style=style,
            max_rate=ceiling,
            surrogate=surrogate,
            threshold=threshold,
            share=share,
            means=means,
            audit=audit,
            key=plain._key,
            on_invalid=on_invalid,
            margin=margin,
        )

    def forward(self, outputs: Rows, **options: Any) -> Rows:
        """See `Defense.forward`; counts the flips where an audit is kept."""
        served = super().forward(outputs, **options)
        if self.audit is not None:
            p, q = as_rows("outputs", outputs), as_rows("served", served)
            for part in pieces(p, self.piece):
                valid = valid_rows(p[part])
                self.audit.record(label_of(p[part])[valid], label_of(q[part])[valid])
        return served

    @property
    def piece(self) -> int:
        """See `Defense.piece`."""
        return super().piece if self.surrogate is None else NETWORKS

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        return self.respond(p, p)

    def respond(self, p: Tensor, given: Tensor) -> Tensor:
        """See `Defense.respond`."""
        chosen = self._chosen(p)
        new = torch.where(chosen, self._targets(p, chosen), -1)
        q, _ = ops.flip(
            # Which entries tie depends on the dtype of the rows as they came.
            given if given.dtype.itemsize == 2 else p,
            targets=new,
            rate=1.0,
            key=self._key,
            style=self.style,
            margin=self.margin,
            validate=False,
        )
        return q

    def _keyed_labels(self, p: Tensor, rate: float) -> Tensor:
        """The labels that `mipoison.flip` draws by key, uniformly; int64 [N]."""
        return ops.flip(p, rate=rate, key=self._key, validate=False)[1]

    def _chosen(self, p: Tensor) -> Tensor:
        """The rows to flip, bool [N]."""
        drawn = self._keyed_labels(p, self.share) != label_of(p)
        if self.rows == "random":
            return drawn
        # (The constructor has checked that these are given.)
        if self.rows == "margin":
            scores = margins(p.to(torch.float64))
        else:
            scores = -leaks(p, cast(Surrogate, self.surrogate), cast(Tensor, self.means))
        # (A score that overflows excludes no row.)
        return drawn & ~(scores > cast(float, self.threshold))

    def _targets(self, p: Tensor, chosen: Tensor) -> Tensor:
        """New labels, int64 [N]; only those of chosen rows matter."""
        if self.targets == "runner_up":
            return runner_up(p)
        if self.targets == "random" or self.surrogate is None:
            return self._keyed_labels(p, 1.0)
        index = chosen.nonzero().squeeze(-1)
        worst = surrogate_worst(p[index], self.surrogate, self.style)
        return label_of(p).index_copy(0, index, worst)

    def settings(self) -> dict[str, Any]:
        """See `Saved.settings`."""
        # With random rows the share is the rate.
        share = None if self.rows == "random" else self.share
        return super().settings() | {"share": share, "audit": self.audit is not None}

    def get_extra_state(self) -> Tensor:
        """Threshold and share, which a state_dict carries beside its tensors; NaN for no threshold."""
        threshold = math.nan if self.threshold is None else self.threshold
        return torch.tensor([threshold, self.share], dtype=torch.float64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        """Takes what `get_extra_state` gave.

        Raises:
            ValueError: for anything else; if only one of this defense and the state has a threshold, or if the
                share is no probability, above max_rate, or another than the rate with which any row is flipped.
        """
        threshold, share = numbers_of(state, ("threshold", "share"))
        share = as_number("share", share, 0.0, self.max_rate)
        if math.isnan(threshold) != (self.threshold is None):
            found = "without" if math.isnan(threshold) else "with"
            raise ValueError(
                f"expected the state of an LFP with rows={self.rows!r}, got one {found} a threshold; "
                "save the defense and read it with mipoison.load"
            )
        if self.threshold is None and share != self.rate:
            raise ValueError(
                f"expected the state of an LFP with rate={self.rate:g}, got one with {share:g}; "
                "build it with that rate, or save the defense and read it with mipoison.load"
            )
        self.threshold = None if math.isnan(threshold) else threshold
        self.share = share

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return (
            f"rate={self.rate:g}, rows={self.rows!r}, targets={self.targets!r}, "
            f"max_rate={self.max_rate:g}"
        )
