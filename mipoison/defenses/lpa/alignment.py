"""Alignment: makes training on the answers follow a defensive loss (arXiv 2412.07575; Witches' Brew)."""

from __future__ import annotations

from typing import Any, ClassVar, Final, TypeVar

import torch
from torch import Tensor

from mipoison.defenses.bank import Bank
from mipoison.defenses.lpa.gradients import cosine, factors
from mipoison.defenses.lpa.objective import GRID
from mipoison.defenses.lpa.targets import Targets
from mipoison.defenses.lpa.toward_bank import TowardBank
from mipoison.defenses.storage import below
from mipoison.keys import Key
from mipoison.ops import unchecked
from mipoison.ops.keyed import keyed_bits
from mipoison.ops.rows import distance
from mipoison.ops.validation import as_inputs, as_part
from mipoison.random import mulhi32
from mipoison.surrogate import Surrogate

# The closed form is applied at the start, and once more at its answer, where the backpropagated errors differ.
_ROUNDS: Final = 2
# With this length in radii, a projected step is the linear maximiser to within 2 % of the radius: ⟨g/‖g‖, q⟩ falls
# short by at most (2ε)²/(2·length).
_FAR: Final = 100.0
# An answer that moved less than this share of its start's move is replaced by the start.
_SHORT: Final = 0.9
_STEPS: Final = 5
_STEP: Final = 0.2

_Own = TypeVar("_Own", bound="Alignment")


class Alignment(TowardBank):
    """Maximises ⟨∇_θ₁ ½‖G(q) − x‖², T⟩ for the first layer θ₁ of the surrogate G and a keyed target gradient T.

    An adversary who trains on (q, x) steps along −∇_θ ½‖G(q) − x‖². If that points along the gradient of a defensive
    loss, training minimises the defensive loss instead. For the first layer the gradient is a(q) ⊗ s, with a(q) the
    network's features. With s fixed it is linear in the features, so the best q needs no search.

    1. G(p) replaces x, which is unknown when a row is served.
    2. The row moves toward a keyed bank vector: at p the error, hence s, is only the disagreement of the members.
    3. There s is fixed, a(q) linearised, and the linear maximiser over the row's set taken. This is repeated once.

    The key chooses T among a few targets, which are fixed when the defense is fitted: a row's answer depends on that
    row only. `FullAlignment` aligns all layers.

    Args:
        surrogate: the fitted inversion models.
        bank: output vectors of the defender's own, non-private, data.
        targets: target gradients of the layers that are aligned.
    """

    name: ClassVar[str] = "alignment"
    all_layers: ClassVar[bool] = False
    toward: Tensor

    def __init__(self, surrogate: Surrogate, bank: Bank, targets: Targets) -> None:
        super().__init__(surrogate, bank)
        self.targets = as_part("targets", targets, Targets, "Targets.fit")
        self.register_buffer("toward", None, persistent=False)
        self.prepare()

    def parts(self) -> tuple[Tensor, ...]:
        """See `TowardBank.parts`."""
        return *super().parts(), self.targets.get_buffer("weight0")

    def compute(self) -> None:
        """See `TowardBank.compute`."""
        super().compute()
        if self.all_layers:
            return
        every = (self.surrogate.toward(self.targets[i][0][0]) for i in range(len(self.targets)))
        self.toward = torch.stack([torch.stack(members) for members in every])

    @classmethod
    def fit(
        cls: type[_Own],
        surrogate: Surrogate,
        rows: Tensor,
        inputs: Any,
        *,
        loss: str = "decoy",
        seed: int = 0,
    ) -> _Own:
        """Computes the target gradients on the defender's non-private pairs.

        Args:
            surrogate: fitted on these pairs.
            rows: clean probability vectors, float32 [N, K].
            inputs: their inputs, [N, ...].
            loss: the defensive loss. "decoy": to the input of another row of the label; "clean": −L on clean pairs.
            seed: of the choice of decoys; not secret.

        Raises:
            ValueError: for an unknown loss.

        Example:
            >>> import mipoison as mp
            >>> p, x = torch.softmax(torch.randn(64, 5), 1), torch.rand(64, 8, 8)
            >>> objective = Alignment.fit(mp.Surrogate.fit(p, x), p, x, loss="clean")
            >>> mp.LPA(objective, epsilon=0.1, key=0)(p).shape
            torch.Size([64, 5])
        """
        x = as_inputs(inputs, rows)
        layers = surrogate.layers if cls.all_layers else 1
        targets = Targets.fit(surrogate, rows, x, loss=loss, layers=layers, seed=seed)
        return cls(surrogate, Bank(rows), targets)

    def poison(self, p: Tensor, *, key: Key, epsilon: float, norm: str) -> Tensor:
        """See `Objective.poison`."""
        clean = unchecked.recover(p, self.surrogate)
        far, _, _ = self.far_target(p, key=key, grid=GRID)
        style = "waterfill" if norm == "l1" else "straight"
        start = unchecked.move(p, far.to(p.dtype), epsilon=epsilon, norm=norm, style=style)
        # (Draw 0 is that of `far_target`.)
        word = keyed_bits(p, key, 1, GRID, 1).squeeze(-1)
        choice = mulhi32(word, torch.full_like(word, len(self.targets)))
        # Rows are grouped by target, so that each is aligned with its target only.
        q = start
        for index in choice.unique().tolist():
            some = (choice == index).nonzero().squeeze(-1)
            aligned = self._align(p[some], start[some], clean[some], index, epsilon, norm)
            q = q.index_copy(0, some, aligned)
        # Near a vertex the best direction may lead into the vertex, which hardly moves the row.
        short = distance(q, p, norm) < _SHORT * distance(start, p, norm)
        return torch.where(short.unsqueeze(-1), start, q)

    def _align(
        self, p: Tensor, q: Tensor, clean: Tensor, index: int, epsilon: float, norm: str
    ) -> Tensor:
        """Aligns rows of one target, from their start q."""
        width, outputs = self.surrogate.width, self.surrogate.outputs
        members = [unchecked.Packed(one, 1, width, outputs) for one in self.toward[index]]
        for _ in range(_ROUNDS):
            # ∇_q ⟨a(q), T s⟩ with s fixed: the error of each member's recovery, carried back through T.
            pulls = [unchecked.pull(q, clean, member, smooth=True)[0] for member in members]
            g = torch.stack(pulls).sum(0).to(p.dtype)
            q = unchecked.step(p, g, center=p, alpha=_FAR * epsilon, epsilon=epsilon, norm=norm)
        return q

    def settings(self) -> dict[str, Any]:
        """See `Objective.settings`."""
        return super().settings() | self.surrogate.settings()

    @classmethod
    def restore(cls: type[_Own], settings: dict[str, Any], tensors: dict[str, Tensor]) -> _Own:
        """See `Objective.restore`."""
        surrogate = Surrogate.restore(settings, below("surrogate", tensors))
        return cls(surrogate, Bank(tensors["bank.vectors"]), Targets(below("targets", tensors)))


class FullAlignment(Alignment):
    """Minimises 1 − cos(∇_θ ½‖G(q) − x‖², T) over all layers, by normalised, projected gradient steps.

    The paper's solver, applied row by row: it aligns each row's gradient instead of the batch's, so that an answer does
    not depend on the batch. It costs more than ten times as much as `Alignment` and gains less on most data (decision
    14).
    """

    name: ClassVar[str] = "alignment-full"
    all_layers: ClassVar[bool] = True

    def _align(
        self, p: Tensor, q: Tensor, clean: Tensor, index: int, epsilon: float, norm: str
    ) -> Tensor:
        target = self.targets[index]

        def score(q: Tensor, x: Tensor) -> Tensor:
            return cosine(factors(self.surrogate, q, x, smooth=True), target)

        for _ in range(_STEPS):
            q = unchecked.step(
                q,
                self.surrogate.gradient_of(score, q, clean).to(p.dtype),
                center=p,
                alpha=_STEP * epsilon,
                epsilon=epsilon,
                norm=norm,
            )
        return q
