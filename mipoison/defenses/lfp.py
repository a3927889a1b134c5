"""LFP: label-flipping poisoning of a small subset of output vectors (arXiv 2412.07575)."""

from __future__ import annotations

from os import PathLike
from typing import Any, ClassVar, Final, cast

import torch
from torch import Tensor

from mipoison import ops
from mipoison.defenses import storage
from mipoison.defenses.base import Defense, own_rows
from mipoison.ops.answers import Rows
from mipoison.ops.validation import as_choice, as_number
from mipoison.random import KeyLike, resolve_key
from mipoison.reference import label_of
from mipoison.surrogate import Surrogate

ROWS: Final = ("random", "margin")
TARGETS: Final = ("runner_up", "random", "surrogate")
# Candidates that the surrogate tries at once.
_TRIALS: Final = 65_536


def margins(p: Tensor) -> Tensor:
    """Lead of the largest entry over the second, [N]."""
    top = p.topk(2, dim=-1).values
    return top[:, 0] - top[:, 1]


def runner_up(p: Tensor) -> Tensor:
    """Index of the largest entry beside the label, int64 [N]."""
    label = label_of(p)
    return label_of(p.scatter(-1, label.unsqueeze(-1), -1.0))


def surrogate_worst(p: Tensor, surrogate: Surrogate, style: str = "swap") -> Tensor:
    """The new label whose flipped vector the surrogate reconstructs farthest from the old one, int64 [N].

    Tries every other label: N·K evaluations of the surrogate, some rows at a time.
    """
    k = p.shape[1]
    chunks = [_worst(rows, surrogate, style) for rows in p.split(max(1, _TRIALS // k))]
    return torch.cat(chunks) if chunks else label_of(p)


def _worst(p: Tensor, surrogate: Surrogate, style: str) -> Tensor:
    n, k = p.shape
    every = torch.arange(k, device=p.device).repeat(n)
    repeated = p.repeat_interleave(k, dim=0)
    flipped, _ = ops.flip(repeated, targets=every, rate=1.0, key=0, style=style)
    clean = surrogate(p).repeat_interleave(k, dim=0)
    error = (surrogate(flipped) - clean).square().sum(-1).reshape(n, k)
    # The own label is no candidate, however far rounding throws its vector.
    return label_of(error.scatter(-1, label_of(p).unsqueeze(-1), -1.0))


class LFP(Defense):
    """Serves a small share of the rows under another label.

    What it costs is plain: about its rate in accuracy. It protects little beyond the flipped rows
    themselves. The choice is a function of (key, exact row), so a repeated query gets the same
    answer and the rate is over distinct rows.

    Args:
        rate: share of rows flipped, in [0, 1].
        rows: "random" by key, or "margin": those of lowest margin (through `LFP.fit`, which sets
            the threshold).
        targets: "random" by key, "runner_up", or "surrogate": the label that throws the surrogate
            farthest.
        style: "swap" or "project", see `mipoison.flip`.
        surrogate: needed with targets="surrogate".
        threshold: rows of at most this margin flip; needed with rows="margin".
        key: see `LPA`.
        on_invalid: see `Defense`.
    """

    name: ClassVar[str] = "LFP"

    def __init__(
        self,
        *,
        rate: float = 0.01,
        rows: str = "random",
        targets: str = "random",
        style: str = "swap",
        surrogate: Surrogate | None = None,
        threshold: float | None = None,
        key: KeyLike = None,
        on_invalid: str = "raise",
    ) -> None:
        super().__init__(on_invalid=on_invalid)
        self.rate = as_number("rate", rate, 0.0, 1.0)
        self.rows = as_choice("rows", rows, ROWS)
        self.targets = as_choice("targets", targets, TARGETS)
        self.style = as_choice("style", style, ("swap", "project"))
        if targets == "surrogate" and surrogate is None:
            raise ValueError("expected a surrogate with targets='surrogate', got none; use LFP.fit")
        if rows == "margin" and threshold is None:
            raise ValueError("expected a threshold with rows='margin', got none; use LFP.fit")
        self.surrogate = surrogate if targets == "surrogate" else None
        self.threshold = threshold
        self._key = resolve_key(key)

    @property
    def classes(self) -> int | None:
        """K of the surrogate, if it has one."""
        return None if self.surrogate is None else self.surrogate.classes

    @classmethod
    def fit(
        cls,
        outputs: Any,
        inputs: Any = None,
        *,
        rate: float = 0.01,
        rows: str = "margin",
        targets: str = "surrogate",
        style: str = "swap",
        key: KeyLike = None,
        seed: int = 0,
        on_invalid: str = "raise",
    ) -> LFP:
        """Sets the margin's threshold and trains the surrogate, as the choices need.

        Args:
            outputs: undefended confidence vectors of the defender's own data, [N, K]. For the
                realised rate to be the asked one they should be rows that the classifier was not
                trained on.
            inputs: what produced them, [N, ...]; needed with targets="surrogate".
            rate: share of distinct rows to flip, in [0, 1].
            rows: see `LFP`.
            targets: see `LFP`.
            style: see `LFP`.
            key: see `LFP`.
            seed: of the surrogate's training.
            on_invalid: see `Defense`.

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for wrong shapes, ranges or rows.
        """
        as_choice("targets", targets, TARGETS)
        share = as_number("rate", rate, 0.0, 1.0)
        p = own_rows(outputs)
        surrogate = None
        if targets == "surrogate":
            if inputs is None:
                raise ValueError("expected inputs with targets='surrogate', got none")
            surrogate = Surrogate.fit(p, inputs, seed=seed)
        threshold = None
        if rows == "margin":
            distinct = margins(torch.unique(p.to(torch.float64), dim=0)).sort().values
            count = round(share * len(distinct))
            # No margin is below −1: nothing is flipped.
            threshold = -1.0 if count == 0 else float(distinct[count - 1])
        return cls(
            rate=share,
            rows=rows,
            targets=targets,
            style=style,
            surrogate=surrogate,
            threshold=threshold,
            key=key,
            on_invalid=on_invalid,
        )

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`."""
        chosen = self._chosen(p)
        new = torch.where(chosen, self._targets(p, chosen), -1)
        return ops.flip(p, targets=new, rate=1.0, key=self._key, style=self.style)[0]

    def _keyed_labels(self, p: Tensor, rate: float) -> Tensor:
        """The labels of the keyed uniform choice, from the operation that knows how; int64 [N]."""
        return ops.flip(p, rate=rate, key=self._key)[1]

    def _chosen(self, p: Tensor) -> Tensor:
        """The rows to flip, bool [N]."""
        if self.rows == "random":
            return self._keyed_labels(p, self.rate) != label_of(p)
        # The constructor sees to it that rows of lowest margin come with a threshold.
        return margins(p.to(torch.float64)) <= cast(float, self.threshold)

    def _targets(self, p: Tensor, chosen: Tensor) -> Tensor:
        """New labels, int64 [N]; only those of chosen rows matter."""
        if self.targets == "runner_up":
            return runner_up(p)
        if self.surrogate is None:
            return self._keyed_labels(p, 1.0)
        index = chosen.nonzero().squeeze(-1)
        worst = surrogate_worst(p[index], self.surrogate, self.style)
        return label_of(p).index_copy(0, index, worst)

    def save(self, path: str | PathLike[str]) -> None:
        """Writes the defense as safetensors, without its key."""
        settings = {
            name: getattr(self, name)
            for name in ("rate", "rows", "targets", "style", "threshold", "on_invalid")
        }
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
        return cls(surrogate=surrogate, key=key, **settings)

    def extra_repr(self) -> str:
        """Settings, without the key."""
        return f"rate={self.rate:g}, rows={self.rows!r}, targets={self.targets!r}"


def lfp(
    outputs: Rows,
    surrogate: Surrogate | None = None,
    *,
    rate: float = 0.01,
    style: str = "swap",
    key: KeyLike = None,
) -> Rows:
    """Label-flipping poisoning in one call: keyed rows, each given the label that throws the surrogate farthest.

    Without a surrogate the new label is a keyed uniform one. Rows of lowest margin need `LFP.fit`.

    Args:
        outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor or
            ndarray.
        surrogate: inversion models from `Surrogate.fit`.
        rate: share of distinct rows flipped, in [0, 1].
        style: "swap" or "project", see `mipoison.flip`.
        key: int, bytes or None (one secret per process).

    Returns:
        the rows, [N, K] of the same kind and dtype.

    Raises:
        TypeError: for a wrong kind, dtype or key.
        ValueError: for wrong shapes and ranges, or rows that are no probability vectors; names the
            rows.

    Example:
        >>> import mipoison as mp, torch
        >>> q = mp.lfp(torch.tensor([[0.7, 0.2, 0.1]]), rate=1.0, key=0)
        >>> int(q.argmax()) != 0
        True
    """
    targets = "random" if surrogate is None else "surrogate"
    defense = LFP(rate=rate, targets=targets, style=style, surrogate=surrogate, key=key)
    return defense(outputs)  # type: ignore[no-any-return]
