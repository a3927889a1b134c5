"""The base class of all defenses: validation of the rows, and safe answers to invalid ones."""

from __future__ import annotations

import copy
import math
import os
import threading
from abc import abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Final

import torch
from torch import Tensor

from mipoison.defenses import compiled
from mipoison.defenses.clean import as_dtype, cleaned, in_memory
from mipoison.defenses.expected import Expected
from mipoison.defenses.lead import keep_lead
from mipoison.defenses.pieces import ROWS, in_pieces, pieces
from mipoison.defenses.saving import Saved
from mipoison.exporting import eager, exporting, tracing
from mipoison.forked import one_thread
from mipoison.neutral import neutral
from mipoison.ops.answers import Rows, like, read_back, refuse
from mipoison.ops.identity import Ids, RequestKey, as_requests
from mipoison.ops.rows import label_of
from mipoison.ops.validation import as_choice, as_flag, as_number, as_rows, require_probabilities
from mipoison.reference import valid_rows
from mipoison.reference.rounding import safe_answer

# Held while `failures` or an audit is counted: concurrent threads would lose counts.
COUNTING: Final = threading.Lock()
# A child that is forked while the lock is held would wait for it forever.
os.register_at_fork(after_in_child=COUNTING._at_fork_reinit)  # type: ignore[attr-defined]


def unrecorded() -> AbstractContextManager[None]:
    """A region without gradient; never nested, since torch.export cannot save nested ones.

    An exported program has none; its inputs are detached.
    """
    if exporting() or not torch.is_grad_enabled():
        return nullcontext()
    return torch.no_grad()


def _a_tensor(module: torch.nn.Module) -> Tensor | None:
    """A tensor of the module; `buffers()` takes ten times as long to begin."""
    for tensors in (module._buffers, module._parameters):
        for tensor in tensors.values():
            if tensor is not None:
                return tensor
    for child in module._modules.values():
        found = None if child is None else _a_tensor(child)
        if found is not None:
            return found
    return None


class Defense(Saved):
    """Maps outputs to defended outputs, row by row; subclasses write `answer`.

    Args:
        on_invalid: what happens to a row that is no probability vector. "raise": `ValueError`
            naming the first ones. "label": the row is answered with its label alone (one-hot;
            uniform where it holds NaN or Inf) and counted in `failures`. No setting returns the
            row itself.
        margin: in [0, 1]. In an answer the label leads by the margin, or by the lead it had if
            that is smaller. So wherever the undefended label survives a cast to float16 or bfloat16,
            or a rounding to as many decimals as the margin has (three by default), the answer's
            label does, too; where entries tie after that, the label is the first of them, as for
            `torch.argmax`. 0: labels are strict, with no further guarantee.

    Attributes:
        name: the defense's name in reports.
        failures: rows answered by "label" so far.
    """

    name: ClassVar[str]
    # Whether every answer keeps its row's label.
    keeps_labels: ClassVar[bool] = True
    saved: ClassVar[tuple[str, ...]] = ("on_invalid", "margin")

    def __init__(self, *, on_invalid: str = "raise", margin: float = 1e-3) -> None:
        super().__init__()
        self.on_invalid = as_choice("on_invalid", on_invalid, ("raise", "label"))
        self.failures = 0
        self.margin = as_number("margin", margin, 0.0, 1.0)
        self._handle = compiled.handle_of(self)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """A copy gets another handle."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._handle = compiled.handle_of(self)

    def _begin_counts(self) -> None:
        self.failures = 0

    @property
    def ball(self) -> tuple[float, str]:
        """Radius and norm of the ball that answers lie in; an infinite radius for none."""
        return math.inf, "l1"

    @property
    def classes(self) -> int | None:
        """K of the data it was fitted on; None where any K will do."""
        return None

    @property
    def expected(self) -> Expected | None:
        """What its fit expects fresh rows to do, which `mipoison.Meter` compares traffic with; None for none."""
        return None

    @property
    def piece(self) -> int:
        """Entries of the pieces in which a large batch is answered; see `mipoison.defenses.pieces`."""
        return ROWS

    @property
    def leads(self) -> bool:
        """Whether every answer's label leads by `least_lead(margin)`, so that no lead has to be restored."""
        return False

    @abstractmethod
    def answer(self, p: Tensor) -> Tensor:
        """Defends clean rows (see `clean_rows`): [N, K] → [N, K] of the same dtype, float32 or float64."""

    def respond(self, p: Tensor, given: Tensor) -> Tensor:
        """Defends clean rows, given also as they came; by default only the clean rows matter.

        Args:
            p: clean rows, [N, K].
            given: the rows as they came, [N, K] of any dtype; uniform where they are no probability vectors. They
                may be the caller's own: they are not to be changed, nor returned.
        """
        return self.answer(p)

    def forward(self, outputs: Rows, *, ids: Ids = None, validate: bool = True) -> Rows:
        """Defends a batch of outputs.

        Args:
            outputs: confidence vectors, [N, K]; float32, float64, float16 or bfloat16; tensor,
                array, or what `numpy.asarray` takes.
            ids: identities of the requests, one a row: N ints (64 bits), bytes or str. Randomness
                then derives from (key, id) instead of (key, row). The same row gets the same answer
                under the same id and another under another id. Answers under several ids can be
                averaged, so use ids that a client cannot choose, such as accounts. A defense
                without a key refuses them.
            validate: False raises for no row, does not count invalid rows in `failures` and reads
                nothing back, so that graphs can be captured: invalid rows get the answer of
                on_invalid="label". (The audit of an LFP counts flips in any case, and reads back.)

        Returns:
            the defended rows, [N, K] of the same dtype, without gradient: a tensor for a tensor or a
            list of tensors, an ndarray for everything else (arrays, DataFrames, lists of lists,
            which count as float64).

        Raises:
            TypeError: for a wrong kind or dtype.
            ValueError: for a wrong shape or device, for ids where there is no key or, with on_invalid="raise",
                for rows that are no probability vectors; for an epsilon below the resolution of their dtype.
            RuntimeError: under torch.export and make_fx, if the defense has a key; under torch.jit.trace and make_fx
                with validate=True; under torch.vmap and torch.func, if they cannot follow it.
        """
        validate = as_flag("validate", validate)
        if self._key is not None and not eager() and (exporting() or tracing()):
            raise RuntimeError(
                f"expected a defense without a key under torch.export and make_fx, got {self.name}: the program "
                "would hold the key; export the model alone and defend its answers where they are served"
            )
        if validate and not eager() and tracing():
            raise RuntimeError(
                "expected validate=False under torch.jit.trace and make_fx, got True: the graph would hold that no row "
                "of the example is invalid, and answer invalid rows later as if they were valid; pass validate=False"
            )
        # Torch sums rows of another memory layout in another order.
        p = as_rows("outputs", outputs).detach().contiguous()
        if not torch.compiler.is_compiling():
            self._require_device(p)
        if self.classes is not None and p.shape[1] != self.classes:
            raise ValueError(
                f"expected outputs with K={self.classes} classes, as fitted, got K={p.shape[1]}"
            )
        radius, resolution = self.ball[0], torch.finfo(p.dtype).eps
        if 0 < radius < resolution:
            # (Entries near one lie so far apart: such a move would leave rows as they are.)
            raise ValueError(
                f"expected an epsilon of at least {resolution:.2g} for rows in {p.dtype}, which cannot hold smaller "
                f"moves, got {radius:.2g}; raise epsilon or the budget, or pass rows of a wider dtype"
            )
        if not torch.compiler.is_compiling() and torch._C._are_functorch_transforms_active():
            return self._transformed(ids, p, outputs, validate)
        return self._served(ids, p, outputs, validate)

    def _require_device(self, p: Tensor) -> None:
        """Raises ValueError for rows on another device than the tensors of this defense."""
        held = _a_tensor(self)
        if held is None:
            return
        if held.device != p.device:
            raise ValueError(
                f"expected outputs on {held.device}, where the tensors of {self.name} are, got them on {p.device}; "
                f"move one of them, as with defense.to({str(p.device)!r})"
            )

    def _served(self, ids: Ids, p: Tensor, outputs: Rows, validate: bool) -> Rows:
        """Answers the rows, read from the outputs, in the way that the request and torch's compiler call for."""
        if ids is not None:
            return self._asked(ids, p, outputs, validate)
        if validate:
            return self._read(self, p, outputs)
        if torch.compiler.is_compiling() and not exporting():
            return like(torch.ops.mipoison.answer(p, self._handle), outputs)
        return like(self._unread(p), outputs)

    def _transformed(self, ids: Ids, p: Tensor, outputs: Rows, validate: bool) -> Rows:
        """Answers under torch.vmap and torch.func, as far as they can follow."""
        try:
            return self._served(ids, p, outputs, validate)
        except RuntimeError as error:
            if validate and str(error).startswith("expected"):
                raise
            raise RuntimeError(
                f"expected {self.name} outside torch.vmap and torch.func, got a call under one of them, which cannot "
                "follow how it looks vectors up and takes gradients; pass all rows at once, as [N, K]"
            ) from error

    @compiled.outside_graphs
    def _asked(self, ids: Ids, p: Tensor, outputs: Rows, validate: bool) -> Rows:
        """Answers with the key bound to the ids."""
        acting = self._under(ids, p)
        return self._read(acting, p, outputs) if validate else like(acting._unread(p), outputs)

    @compiled.outside_graphs
    def _read(self, acting: Defense, p: Tensor, outputs: Rows) -> Rows:
        """Answers, reads back which rows are valid, and raises or counts."""
        with neutral(p.device, recorded=False):
            parts = pieces(p, self.piece)
            if self.on_invalid == "raise" and len(parts) > 1:
                # Before anything is answered, in whichever piece it is.
                for part in parts:
                    if not bool(read_back(valid_rows(p[part]).all())):
                        require_probabilities("outputs", p)
            answered = in_pieces(
                lambda part, rows: self._checked(acting._on(part), rows), p, self.piece, parts
            )
            return like(answered, outputs)

    def _checked(self, acting: Defense, p: Tensor) -> Tensor:
        """Answers a piece, of which no row is invalid or invalid ones are counted."""
        rows, invalid = cleaned(p)
        count = read_back(invalid)
        if count > 0 and self.on_invalid == "raise":
            refuse(invalid, lambda: require_probabilities("outputs", p))
        if count > 0:
            with COUNTING:
                self.failures += count
        return acting._answered(p, rows, some_invalid=count > 0, everywhere=False)

    def _unread(self, p: Tensor) -> Tensor:
        """Answers without reading anything back: [N, K] of p's dtype."""
        if exporting():
            return self._safely(p)
        with neutral(p.device, recorded=False):
            return in_pieces(
                lambda part, rows: self._on(part)._safely(rows),
                p,
                self.piece,
                pieces(p, self.piece),
            )

    def _safely(self, p: Tensor) -> Tensor:
        """Answers to valid rows, and the safe answer to the others."""
        rows, invalid = cleaned(p)
        if in_memory(p):
            some = bool(invalid)
            return self._answered(p, rows, some_invalid=some, everywhere=False)
        return self._answered(p, rows, some_invalid=True, everywhere=True)

    def _answered(self, p: Tensor, rows: Tensor, *, some_invalid: bool, everywhere: bool) -> Tensor:
        """Answers to clean rows, in p's dtype, and the safe answer to invalid ones.

        Args:
            p: the rows as they came.
            rows: the same clean.
            some_invalid: whether some may be invalid.
            everywhere: read nothing back.
        """
        given = p
        if some_invalid:
            valid = valid_rows(p).unsqueeze(-1)
            given = torch.where(valid, p, 1 / p.shape[-1])
        q = self.respond(rows, given)
        if self.keeps_labels and self.margin > 0 and not self.leads:
            epsilon, norm = self.ball
            q = keep_lead(
                q,
                rows,
                given,
                margin=self.margin,
                epsilon=epsilon,
                norm=norm,
                everywhere=everywhere,
            )
        q = as_dtype(q, p.dtype)
        return torch.where(valid, q, safe_answer(p, label_of(p), p.dtype)) if some_invalid else q

    def _on(self, part: slice) -> Defense:
        """This defense for some of the rows: with their requests, where its key is bound to ids."""
        if not isinstance(self._key, RequestKey) or part == slice(None):
            return self
        acting = copy.copy(self)
        acting._key = RequestKey(self._key, self._key.requests[part])
        return acting

    def _under(self, ids: Ids, p: Tensor) -> Defense:
        """This defense with its key bound to the ids; it shares everything else."""
        requests = as_requests(ids, p)
        if self._key is None:
            raise ValueError(
                f"expected no ids for {self.name}, which has no key and answers alike under all of them, got some; "
                "leave them out"
            )
        acting = copy.copy(self)
        acting._key = RequestKey(self._key, requests)
        return acting

    def __call__(self, outputs: Any, **options: Any) -> Any:
        """Defends a batch of outputs; see `forward`."""
        if not one_thread.child or torch.compiler.is_compiling():
            return super().__call__(outputs, **options)
        with one_thread:
            return super().__call__(outputs, **options)
