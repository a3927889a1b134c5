"""A defense that counts what it answers, and notices traffic unlike the rows that it was fitted for."""

from __future__ import annotations

import logging
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar, Final, NoReturn
from weakref import WeakSet

import torch
from torch import Tensor, nn

from mipoison.defenses import compiled
from mipoison.defenses.base import Defense
from mipoison.defenses.expected import Expected, bank_of, measure
from mipoison.defenses.pieces import ROWS, pieces
from mipoison.defenses.storage import File
from mipoison.exporting import exporting, tracing
from mipoison.keys import KeyLike
from mipoison.neutral import neutral
from mipoison.ops.answers import Rows, like
from mipoison.ops.identity import Ids
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_choice, as_count, as_part, as_rows
from mipoison.reference import valid_rows
from mipoison.reference.rounding import safe_answer
from mipoison.serve.drift import Sample, alarm, settled
from mipoison.serve.readings import Readings
from mipoison.serve.tally import Counted, Tally, counted

Callback = Callable[[Readings], object]

ON_DRIFT: Final = ("continue", "label", "refuse")
# A window is tested for drift as often as this while it fills once.
_LOOKS: Final = 10
_SMALLEST: Final = 100
_LOG: Final = logging.getLogger("mipoison.serve")
_METERS: Final[WeakSet[Meter]] = WeakSet()


class Drift(RuntimeError):
    """Raised instead of an answer by a `Meter` with on_drift="refuse" while traffic is unlike what was expected."""


class Meter(Defense):
    """Answers as a defense does, and counts: rows, failures, how far rows move, and how like the fitted rows they are.

    A call has the bits, kinds and errors of the defense alone. Counts are exact under threads, and add up over
    processes: a forked child begins at zero, and `Readings.merge` sums what several have read. The meter holds numbers
    and no rows. Reading what is counted back costs a synchronisation on a GPU, also with validate=False; so a compiled
    graph breaks before a meter, and `torch.export` refuses it.

    Every tenth of a window it compares the last rows with what the fit expects (`defense.expected`): their mean l1,
    the share unchanged and, for a defense with a bank, the share far from it. Drift begins where one of them is beyond
    chance, and ends where all are within their bands again. For independent rows like those that were kept out of the
    fit, a look alarms with probability 5e-6 at most, so that one window in 20,000 does; see
    `mipoison.serve.drift`. One client who repeats a query many times is drift, too.

    Args:
        defense: answers the rows.
        window: the last so many valid rows are compared and summarised; ≥ 100.
        on_drift: what is served while traffic drifts: "continue", the defense's answers; "label", the label of each
            answer alone (one-hot); "refuse", nothing, the call raises `Drift`. The defense's answers are computed and
            measured in any case, which is how the end of drift is noticed. With the last two, the answer to a row
            depends on the batches before its own: the batch that begins drift still gets the defense's answers.
        callbacks: functions that are called with the readings when drift begins and when it ends, one change at a time
            and in their order, outside all locks. The thread whose call brought a change about calls them before that
            call returns, or leaves it to the thread that is telling an earlier change. What they raise, SystemExit
            too, is logged under "mipoison.serve" and counted, and changes no answer.
        expected: what fresh rows do: `mipoison.serve.Expected`, or outputs [N, K] that the defense was not fitted on,
            N ≥ 2, on which it is measured. By default what the fit tells. Without any, nothing is drift.

    Raises:
        TypeError: for a wrong kind; a meter cannot be metered.
        ValueError: for a wrong choice or range, or on_drift other than "continue" with nothing expected.

    Example:
        >>> import mipoison as mp, torch
        >>> from mipoison.defenses import Rounding
        >>> meter = mp.Meter(Rounding(1), window=1000)
        >>> _ = meter(torch.softmax(torch.randn(50, 10), 1))
        >>> meter.read().rows, meter.read().failures
        (50, 0)
    """

    name: ClassVar[str] = "meter"

    def __init__(
        self,
        defense: Defense,
        *,
        window: int = 10_000,
        on_drift: str = "continue",
        callbacks: Sequence[Callback] = (),
        expected: Expected | Any = None,
    ) -> None:
        nn.Module.__init__(self)
        as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
        if isinstance(defense, Meter):
            raise TypeError("expected a defense to meter, got a Meter; pass its defense")
        self.window = as_count("window", window, _SMALLEST)
        self.on_drift = as_choice("on_drift", on_drift, ON_DRIFT)
        self.callbacks = _as_callbacks(callbacks)
        self.defense = defense
        # (In a tuple, so that the bank is no child a second time.)
        self._banks = (bank_of(defense),)
        self._told = self._as_expected(expected)
        if self.expected is None and self.on_drift != "continue":
            raise ValueError(
                f"expected a defense that tells what fresh rows do with on_drift={self.on_drift!r}, got one that does "
                "not; pass expected=, rows that it was not fitted on"
            )
        self._begin()
        self._handle = compiled.handle_of(self)

    def _begin(self) -> None:
        """Counts from zero."""
        self._lock = threading.Lock()
        self._tally = Tally(self.window)
        self._looked = 0
        self._reason = ""
        # Changes that no callback was told yet.
        self._changes: deque[Readings] = deque()
        self._telling = False
        _METERS.add(self)

    def __getstate__(self) -> dict[str, Any]:
        """A copy has the defense and the settings, and has counted nothing."""
        left = ("_lock", "_tally", "_looked", "_reason", "_changes", "_telling")
        return {name: value for name, value in vars(self).items() if name not in left}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """See `__getstate__`."""
        super().__setstate__(state)
        self._begin()

    def _as_expected(self, value: Any) -> Expected | None:
        if value is None or isinstance(value, Expected):
            return value
        rows = as_rows("expected", value)
        found = Expected.of([(self.defense, rows, self._banks[0])])
        if found is None:
            raise ValueError(f"expected two rows or more as expected, got {len(rows)}")
        return found

    # The defense, seen through the meter.

    @property
    def expected(self) -> Expected | None:
        """What fresh rows are compared with."""
        return self.defense.expected if self._told is None else self._told

    @property
    def failures(self) -> int:  # type: ignore[override]
        """Rows that the defense answered by their label so far; with validate=False only `read` counts them."""
        return self.defense.failures

    @property
    def withheld(self) -> int:
        """Rows that on_drift kept the defense's answer from so far; see `Readings.withheld`."""
        with self._lock:
            return self._tally.withheld

    @property
    def on_invalid(self) -> str:  # type: ignore[override]
        """The defense's."""
        return self.defense.on_invalid

    @property
    def margin(self) -> float:  # type: ignore[override]
        """The defense's."""
        return self.defense.margin

    @property
    def keeps_labels(self) -> bool:  # type: ignore[override]
        """The defense's."""
        return self.defense.keeps_labels

    @property
    def ball(self) -> tuple[float, str]:
        """See `Defense.ball`."""
        return self.defense.ball

    @property
    def classes(self) -> int | None:
        """See `Defense.classes`."""
        return self.defense.classes

    def answer(self, p: Tensor) -> Tensor:
        """See `Defense.answer`; counts nothing."""
        return self.defense.answer(p)

    def respond(self, p: Tensor, given: Tensor) -> Tensor:
        """See `Defense.respond`; counts nothing."""
        return self.defense.respond(p, given)

    def with_key(self, key: KeyLike) -> Meter:
        """A meter of the defense under another key, which has counted nothing; see `Defense.with_key`."""
        return Meter(
            self.defense.with_key(key),
            window=self.window,
            on_drift=self.on_drift,
            callbacks=self.callbacks,
            expected=self._told,
        )

    def save(self, file: File) -> NoReturn:
        """Raises TypeError: a meter is made anew around the defense that was loaded."""
        raise TypeError("expected a defense to save, got a Meter; save its defense")

    # Answering.

    @compiled.outside_graphs
    def forward(self, outputs: Rows, *, ids: Ids = None, validate: bool = True) -> Rows:
        """Answers as the defense does, see `Defense.forward`, and counts.

        Raises:
            Drift: with on_drift="refuse", while traffic drifts.
            RuntimeError: under torch.export, make_fx, torch.vmap and torch.func, where nothing could be counted.
        """
        if exporting() or tracing() or torch._C._are_functorch_transforms_active():
            raise RuntimeError(
                "expected a meter outside torch.export, make_fx, torch.vmap and torch.func, got a call under one of "
                "them, where nothing could be counted; use its defense there"
            )
        expected = self.expected
        try:
            p = as_rows("outputs", outputs).detach().contiguous()
            q = self.defense(p, ids=ids, validate=validate)
            with torch.no_grad():
                batch = self._measured(p, q, expected)
        except Exception:
            with self._lock:
                self._tally.errors += 1
            raise
        reason = self._counted(batch, len(p), expected)
        self._tell_changes()
        if reason and self.on_drift != "continue":
            q = self._withheld(p, q, reason)
        return like(q, outputs)

    def _measured(self, p: Tensor, q: Tensor, expected: Expected | None) -> Counted:
        bank = self._banks[0]
        parts = [measure(p[part], q[part], bank) for part in pieces(p, ROWS)]
        return counted(parts, None if expected is None else expected.far)

    def _counted(self, batch: Counted, rows: int, expected: Expected | None) -> str:
        """Counts a batch; what drifted before it, so that no row's answer depends on the other rows of its batch."""
        with self._lock:
            before = self._reason
            self._tally.add(batch)
            if self._look(expected):
                self._changes.append(self._readings())
            if before and self.on_drift != "continue":
                self._tally.withheld += rows
            return before

    def _look(self, expected: Expected | None) -> bool:
        """Compares the window with what is expected, where it is time to; whether drift began or ended."""
        turn = self._tally.measured // max(1, self.window // _LOOKS)
        if turn == self._looked or expected is None:
            return False
        self._looked = turn
        sample = Sample(*self._tally.sample())
        epsilon, norm = self.ball
        found = alarm(sample, expected, min(2.0, epsilon) if norm == "l1" else 2.0)
        before = self._reason
        if found is not None:
            self._reason = found
        elif before and settled(sample, expected):
            self._reason = ""
        self._tally.alarms += bool(self._reason) and not before
        return bool(self._reason) != bool(before)

    def _withheld(self, p: Tensor, q: Tensor, reason: str) -> Tensor:
        """What is served in place of the answers."""
        if self.on_drift == "refuse":
            raise Drift(
                f"expected traffic like the rows that were kept out of the fit, got {reason} over the last rows "
                f"({self.window} at most); look at what is sent, fit the defense on rows like it, or serve on with "
                "on_drift='label' or 'continue'"
            )
        with torch.no_grad(), neutral(p.device):
            # (The label of the answer: that of the row is what LFP hides. An invalid row has its safe answer.)
            return torch.where(valid_rows(p).unsqueeze(-1), safe_answer(q, label_of(q), q.dtype), q)

    def _tell_changes(self) -> None:
        """Tells what has changed, in order; returns at once where another call, or one around this, is telling."""
        while self._changes:
            with self._lock:
                if self._telling or not self._changes:
                    return
                self._telling = True
                readings = self._changes.popleft()
            try:
                self._tell(readings)
            finally:
                with self._lock:
                    self._telling = False

    def _tell(self, readings: Readings) -> None:
        """Logs that drift began or ended, and calls the callbacks."""
        if readings.drifting:
            _LOG.warning("traffic drifts: %s", readings.reason)
        else:
            _LOG.warning("traffic is as expected again")
        for callback in self.callbacks:
            try:
                callback(readings)
            except KeyboardInterrupt:
                raise
            except BaseException:
                _LOG.exception("a callback of a meter raised")
                with self._lock:
                    self._tally.callback_errors += 1

    # Reading.

    def read(self) -> Readings:
        """What was counted so far, all of it at one moment."""
        with self._lock:
            return self._readings()

    @staticmethod
    def merge(many: Iterable[Readings]) -> Readings:
        """See `Readings.merge`."""
        return Readings.merge(many)

    def _readings(self) -> Readings:
        tally = self._tally
        return Readings(
            rows=tally.rows,
            batches=tally.batches,
            failures=tally.failures,
            errors=tally.errors,
            withheld=tally.withheld,
            callback_errors=tally.callback_errors,
            alarms=tally.alarms,
            drifting=int(bool(self._reason)),
            reason=self._reason,
            since_start=tally.since_start(),
            window=tally.window(),
            expected=self.expected,
        )

    def extra_repr(self) -> str:
        """Settings."""
        return f"window={self.window}, on_drift={self.on_drift!r}"


def _as_callbacks(given: Sequence[Callback]) -> tuple[Callback, ...]:
    """Raises TypeError for anything but functions."""
    if callable(given) or not isinstance(given, Sequence):
        raise TypeError(
            f"expected callbacks to be a list of functions, got {type(given).__name__}; write callbacks=[f]"
        )
    for one in given:
        if not callable(one):
            raise TypeError(f"expected callbacks to be functions, got {type(one).__name__}")
    return tuple(given)


def _begin_anew() -> None:
    """In a forked child: what the parent has counted, the parent tells; a thread may have held a lock."""
    for meter in list(_METERS):
        meter._begin()


os.register_at_fork(after_in_child=_begin_anew)
