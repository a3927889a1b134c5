"""LFP: label-flipping poisoning of a small subset of output vectors (arXiv 2412.07575)."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses import storage
from mipoison.defenses.base import Defense, own_rows
from mipoison.defenses.lfp.audit import Audit
from mipoison.defenses.lfp.selection import ROWS, as_ceiling, label_means, leaks, margins, pool
from mipoison.defenses.lfp.targets import TARGETS, runner_up, surrogate_worst
from mipoison.neutral import neutrally
from mipoison.ops.answers import Rows
from mipoison.ops.validation import as_choice, as_number, as_rows
from mipoison.random import Key, KeyLike, resolve_key
from mipoison.reference import label_of, valid_rows
from mipoison.surrogate import Surrogate

# Of the rows, the share that a surrogate is trained on where the others set the threshold of its leak.
_TRAINED: Final = 2 / 3
# Fewer rows are not split: they train the surrogate and set the threshold.
_FEWEST: Final = 12


class LFP(Defense):
    """Serves a small share of the rows under another label.

    What it costs is plain: about its rate in accuracy. It protects little beyond the flipped rows
    themselves, and nothing in this package uses it unless it is asked for. The choice is a function
    of (key, exact row), so a repeated query gets the same answer and the rate is over distinct
    rows.

    Args:
        rate: share of rows flipped, in [0, 1].
        rows: "random" by key; or, through `LFP.fit`, which sets the threshold, "margin": out of
            those of lowest margin; "leak": out of those that tell the surrogate most beyond their
            label.
        max_rate: hard ceiling in (0, 1] on the keyed probability with which any row is flipped: no
            traffic, however it differs from the rows of `fit`, has more of its distinct rows
            flipped than this, but for the chance of the draw. A lower ceiling flips out of more
            candidates.
        targets: "random" by key, "runner_up", or "surrogate": the label that throws the surrogate
            farthest.
        style: "swap" or "project", see `mipoison.flip`.
        surrogate: needed with targets="surrogate" and rows="leak".
        threshold: rows of at most this margin, or of at least this leak with its sign turned, are
            candidates; needed unless rows="random".
        share: the keyed probability, at most max_rate, with which a candidate is flipped; the rate
            with rows="random".
        means: what the surrogate recovers from each label, [K, C]; needed with rows="leak".
        audit: whether to count what is flipped, in `audit`. Counting reads the labels back.
        key: see `LPA`.
        on_invalid: see `Defense`.
    """

    name: ClassVar[str] = "LFP"
    keeps_labels: ClassVar[bool] = False
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
        share: float = 1.0,
        means: Tensor | None = None,
        audit: bool = False,
        key: KeyLike = None,
        on_invalid: str = "raise",
    ) -> None:
        super().__init__(on_invalid=on_invalid)
        self.rate = as_number("rate", rate, 0.0, 1.0)
        self.max_rate = as_ceiling(max_rate, self.rate)
        self.rows = as_choice("rows", rows, ROWS)
        self.targets = as_choice("targets", targets, TARGETS)
        self.style = as_choice("style", style, ("swap", "project"))
        if targets == "surrogate" and surrogate is None:
            raise ValueError("expected a surrogate with targets='surrogate', got none; use LFP.fit")
        if rows != "random" and threshold is None:
            raise ValueError(f"expected a threshold with rows={rows!r}, got none; use LFP.fit")
        if rows == "leak" and (surrogate is None or means is None):
            raise ValueError(
                "expected a surrogate and its means with rows='leak', got none; use LFP.fit"
            )
        self.share = self.rate if rows == "random" else as_number("share", share, 0.0, 1.0)
        if self.share > self.max_rate:
            raise ValueError(
                f"expected share <= max_rate={self.max_rate:g}, got {self.share:g}; use LFP.fit"
            )
        self.surrogate = surrogate if targets == "surrogate" or rows == "leak" else None
        self.register_buffer("means", means if rows == "leak" else None)
        self.threshold = threshold
        self.audit = Audit() if audit else None
        self._key: Key = resolve_key(key)

    @property
    def classes(self) -> int | None:
        """K of the surrogate, if it has one."""
        return None if self.surrogate is None else self.surrogate.classes

    @classmethod
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
    ) -> LFP:
        """Sets the threshold on held-out rows and trains the surrogate, as the choices need.

        The rate is met on fresh distinct rows like the given ones: few rows to set a threshold by
        make a wider pool of candidates, of which the key flips some, rather than a rate left to
        luck.

        Args:
            outputs: undefended confidence vectors of the defender's own data, [N, K]. They must be
                rows that the classifier was not trained on: on its training rows it is surer than
                on fresh ones.
            inputs: what produced them, [N, ...]; needed with targets="surrogate" and rows="leak".
                With rows="leak" the surrogate is trained on two thirds of the rows and the
                threshold set on the others.
            rate: share of distinct rows to flip, in [0, 1].
            rows: see `LFP`.
            targets: see `LFP`.
            style: see `LFP`.
            max_rate: see `LFP`.
            audit: see `LFP`.
            key: see `LFP`.
            seed: of the surrogate's training.
            on_invalid: see `Defense`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes, ranges or rows.
        """
        as_choice("targets", targets, TARGETS)
        as_choice("rows", rows, ROWS)
        wanted = as_number("rate", rate, 0.0, 1.0)
        ceiling = as_ceiling(max_rate, wanted)
        p = own_rows(outputs)
        surrogate, threshold, share, means = None, None, 1.0, None
        held_out = p
        if targets == "surrogate" or rows == "leak":
            if inputs is None:
                raise ValueError(
                    "expected inputs with targets='surrogate' or rows='leak', got none"
                )
            x = torch.as_tensor(inputs, device=p.device)
            if rows == "leak" and len(p) >= _FEWEST and len(x) == len(p):
                generator = torch.Generator().manual_seed(seed)
                order = torch.randperm(len(p), generator=generator, device="cpu").to(p.device)
                trained, rest = order.tensor_split([round(_TRAINED * len(p))])
                p, held_out, x = p[trained], p[rest], x[trained.to(x.device)]
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
            key=key,
            on_invalid=on_invalid,
        )

    def forward(self, outputs: Rows, **options: Any) -> Rows:
        """See `Defense.forward`; counts the flips where an audit is kept."""
        served = super().forward(outputs, **options)
        if self.audit is not None:
            p, q = as_rows("outputs", outputs), as_rows("served", served)
            valid = valid_rows(p)
            self.audit.record(label_of(p)[valid], label_of(q)[valid])
        return served

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        chosen = self._chosen(p)
        new = torch.where(chosen, self._targets(p, chosen), -1)
        q, _ = ops.flip(
            p,
            targets=new,
            rate=1.0,
            key=self._key,
            style=self.style,
            margin=self.margin,
            validate=False,
        )
        return q

    def _keyed_labels(self, p: Tensor, rate: float) -> Tensor:
        """The labels of the keyed uniform choice, from the operation that knows how; int64 [N]."""
        return ops.flip(p, rate=rate, key=self._key, validate=False)[1]

    def _chosen(self, p: Tensor) -> Tensor:
        """The rows to flip, bool [N]."""
        drawn = self._keyed_labels(p, self.share) != label_of(p)
        if self.rows == "random":
            return drawn
        # The constructor sees to what a choice by score needs.
        if self.rows == "margin":
            scores = margins(p.to(torch.float64))
        else:
            scores = -leaks(p, cast(Surrogate, self.surrogate), cast(Tensor, self.means))
        return drawn & (scores <= cast(float, self.threshold))

    def _targets(self, p: Tensor, chosen: Tensor) -> Tensor:
        """New labels, int64 [N]; only those of chosen rows matter."""
        if self.targets == "runner_up":
            return runner_up(p)
        if self.targets == "random" or self.surrogate is None:
            return self._keyed_labels(p, 1.0)
        index = chosen.nonzero().squeeze(-1)
        worst = surrogate_worst(p[index], self.surrogate, self.style)
        return label_of(p).index_copy(0, index, worst)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the defense as safetensors, without its key."""
        settings = {
            name: getattr(self, name)
            for name in ("rate", "rows", "targets", "style", "max_rate", "share", "on_invalid")
        }
        settings["audit"] = self.audit is not None
        # JSON knows no infinity; a float's text comes back as the same float.
        settings["threshold"] = None if self.threshold is None else repr(self.threshold)
        if self.surrogate is not None:
            settings["input_shape"] = list(self.surrogate.input_shape)
        storage.save(path, self.name, settings, self.state_dict())

    @classmethod
    def load(cls, path: str | PathLike[str], *, key: KeyLike = None) -> LFP:
        """Reads what `save` wrote; the key is given anew.

        Raises:
            ValueError: if the file holds something else.
        """
        settings, tensors = storage.load(path, cls.name)
        shape = settings.pop("input_shape", None)
        surrogate = None
        if shape is not None:
            surrogate = Surrogate(storage.below("surrogate", tensors), tuple(shape))
        threshold = settings.pop("threshold")
        return cls(
            surrogate=surrogate,
            threshold=None if threshold is None else float(threshold),
            means=tensors.get("means"),
            key=key,
            **settings,
        )

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return (
            f"rate={self.rate:g}, rows={self.rows!r}, targets={self.targets!r}, "
            f"max_rate={self.max_rate:g}"
        )
