"""The wrapper that stands between a classifier and its clients."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor, nn

from mipoison.defenses.base import Defense, unrecorded
from mipoison.defenses.clean import softmax_of
from mipoison.defenses.deferred import Deferred
from mipoison.defenses.eval_mode import (
    require_eval_mode,
    require_made_in_eval_mode,
    to_eval_mode,
)
from mipoison.defenses.parts import modules_of
from mipoison.defenses.reading import GIVES, answers_of
from mipoison.defenses.wire import TopK, on_the_wire, require_wire
from mipoison.exporting import exporting
from mipoison.ops.answers import like
from mipoison.ops.identity import Ids
from mipoison.ops.validation import as_choice, as_flag, as_number, as_part, as_rows
from mipoison.reference import valid_rows
from mipoison.reference.rounding import finite_rows

# Beyond these, float32 cannot tell the classes apart: all are alike, or all but one are zero.
TEMPERATURES: Final = (1e-4, 1e4)


@torch.no_grad()
def found_out(model: nn.Module, example: Any) -> str:
    """Whether the model's answers to the example are "probabilities" or "logits".

    Raises:
        ValueError: if there is no example, or its answers are mixed or not finite.
    """
    if example is None:
        raise ValueError("expected an example with gives=None, got none; pass inputs or tell gives")
    given, named = answers_of(model(example), None)
    answers = as_rows("the model's answers", given)
    valid = valid_rows(answers)
    if len(answers) > 0 and bool(valid.all()):
        found = "probabilities"
    elif len(answers) == 0 or bool(valid.any()) or not bool(finite_rows(answers).all()):
        raise ValueError(
            "expected an example whose answers are all probability vectors or all logits, got "
            f"{int(valid.sum())} probability vectors in {len(answers)} rows; tell gives"
        )
    else:
        found = "logits"
    if named not in (None, found):
        raise ValueError(
            f"expected {named} where the model's answers name them, got {found}; tell gives"
        )
    return found


class Defended(nn.Module):
    """A classifier whose answers are defended: inputs → defended outputs.

    Whether the model gives probabilities or logits is set here, and not guessed per batch: logits
    that are passed as probabilities are refused, not served.

    With validate=False every defense (LFP without an audit) runs under
    `torch.compile(fullgraph=True)` as one operator of the graph, which holds no key: the same outputs get the same bits
    as without a compiler. So does the softmax of logits. The compiler may round the model itself otherwise, and with
    gives="probabilities" its softmax. With validate=True the graph breaks before the
    defense. `torch.export` accepts defenses without key and surrogate, with validate=False, and refuses
    keyed ones, since the exported program would contain the key. With ids nothing is compiled.

    Args:
        model: maps inputs to [N, K] probabilities or logits: a module, or a function. It is put into eval
            mode, since an answer must be a function of the query alone, and so are the modules that a
            function's code names; put those that it reaches in another way, as by `getattr`, into eval
            mode yourself. An exported or traced program must have been made in it.
        defense: any defense of this package, or a `Deferred`, with which this can be pickled where the model can.
        gives: what the model returns, "probabilities" (default) or "logits"; None finds it out
            from the example.
        temperature: T of the softmax over logits, in [1e-4, 1e4].
        example: a few typical inputs, which the model is called on once; only with gives=None.
        validate: False raises for no row, counts and reads back nothing, so that graphs can be
            captured: rows that are no probability vectors get their label alone, see
            `Defense.forward`.
        decimals: d in [1, 9]: answers are rounded to d decimals that sum to exactly one, in float64, with the label
            ahead and within the defense's ball; see `mipoison.defenses.wire.on_the_wire`. None: all digits.
        top_k: serve only the k largest entries, in order, as a `TopK`. None: all entries.

    Raises:
        TypeError: if the defense is none.
        ValueError: for a wrong choice or range, an example without gives=None, or one that does not
            show what the model gives.

    Example:
        >>> import mipoison as mp, torch
        >>> model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Softmax(-1))
        >>> served = mp.Defended(model, mp.LPA.fit(model(torch.randn(32, 4)), torch.randn(32, 4)))
        >>> served(torch.randn(2, 4)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        model: nn.Module,
        defense: Defense | Deferred,
        *,
        gives: str | None = "probabilities",
        temperature: float = 1.0,
        example: Any = None,
        validate: bool = True,
        decimals: int | None = None,
        top_k: int | None = None,
    ) -> None:
        super().__init__()
        if not callable(model):
            raise TypeError(
                f"expected model to be a torch.nn.Module or a function, got {type(model).__name__}"
            )
        if not isinstance(defense, Deferred):
            as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
        self.decimals, self.top_k = require_wire(defense, decimals, top_k)
        if example is not None and gives is not None:
            raise ValueError(
                f"expected an example with gives=None alone, got one with gives={gives!r}; leave one of them out"
            )
        temperature = as_number("temperature", temperature, *TEMPERATURES)
        self.model = model
        # (A tuple, so that the modules of a function are no children.)
        self._modules_of_model = modules_of(model)
        for part in self._modules_of_model:
            require_made_in_eval_mode(part)
        self.defense = defense
        self.eval()
        found = found_out(model, example) if gives is None else gives
        self.gives = as_choice("gives", found, GIVES)
        self.validate = as_flag("validate", validate)
        self.temperature = temperature
        if self.gives == "probabilities" and temperature != 1.0:
            raise ValueError(
                f"expected temperature 1 with gives='probabilities', got {temperature:g}; "
                "a temperature acts on logits"
            )

    @property
    def failures(self) -> int:
        """Rows so far that were no probability vectors and were answered by their label alone."""
        return self.defense.failures

    def train(self, mode: bool = True) -> Defended:
        """Stays in eval mode: dropout would give one query many answers, which can be averaged."""
        self.training = False
        for part in (*self._modules_of_model, self.defense):
            # (A deferred defense is no module, and no defense answers otherwise in training mode.)
            if isinstance(part, nn.Module):
                to_eval_mode(part)
        return self

    def forward(self, *args: Any, ids: Ids = None, **kwargs: Any) -> Tensor | TopK:
        """Defended outputs [N, K], or a `TopK`, for whatever the model takes.

        The model's answers are read from a tensor or array, from what they name (`logits`, or `probabilities` or
        `probs`, as an attribute or a key), or from the first entry of a tuple; see `mipoison.defenses.reading`.

        Args:
            args: the model's arguments.
            ids: identities of the requests to key on, see `Defense.forward`; not passed to the model.
            kwargs: the model's keyword arguments.

        Raises:
            TypeError: if the model answers with something in which no such rows can be told for sure.
            ValueError: if they are no batch of probability vectors, or of so many classes that decimals or top_k do not
                fit.
            RuntimeError: if the model was put into training mode since, in which one query can get many answers.
        """
        require_eval_mode(self._modules_of_model)
        with unrecorded():
            outputs, _ = answers_of(self.model(*args, **kwargs), self.gives)
            if self.gives == "logits":
                rows = as_rows("the model's answers", outputs)
                outputs = like(self._softened(rows), outputs)
            return on_the_wire(
                self.defense,
                outputs,
                decimals=self.decimals,
                top_k=self.top_k,
                ids=ids,
                validate=self.validate,
            )

    def _softened(self, logits: Tensor) -> Tensor:
        """The softmax at the temperature, of the logits' dtype."""
        if torch.compiler.is_compiling() and not exporting():
            softened: Tensor = torch.ops.mipoison.softmax_of(logits, self.temperature)
            return softened
        return softmax_of(logits, self.temperature)

    def extra_repr(self) -> str:
        """Settings."""
        wire = "".join(
            f", {name}={value}"
            for name, value in (("decimals", self.decimals), ("top_k", self.top_k))
            if value is not None
        )
        return f"gives={self.gives!r}, temperature={self.temperature:g}{wire}"
