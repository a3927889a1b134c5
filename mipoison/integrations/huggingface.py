"""Defend the scores of a pipeline of Hugging Face's transformers."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import torch

from mipoison.defenses import Defense, Deferred
from mipoison.defenses.eval_mode import require_eval_mode, to_eval_mode
from mipoison.defenses.wire import on_the_wire, require_wire
from mipoison.ops.validation import as_choice, as_part


def defend(
    pipeline: Any,
    defense: Defense | Deferred,
    *,
    decimals: int | None = None,
    top_k: int | None = None,
) -> Any:
    """A copy of a classification pipeline that answers with defended scores; the model is shared.

    It is called like the pipeline. An answer is a list of {"label": ..., "score": ...}, the largest score first, as the
    pipeline itself gives it where it was made with top_k=None.

    Args:
        pipeline: for text or image classification, of one label among two or more. Its model is put into eval mode.
        defense: a fitted one, or a `Deferred`; fitted on the softmax of the model's logits.
        decimals: see `Defended`.
        top_k: labels an answer, unless a call sets another number. None: all.

    Raises:
        TypeError: if the defense is none.
        ValueError: for another task, for scores that are not a softmax over the labels, or a wrong number.
    """
    config = pipeline.model.config
    as_choice("pipeline.task", pipeline.task, ("text-classification", "image-classification"))
    if config.num_labels < 2 or config.problem_type not in (None, "single_label_classification"):
        raise ValueError(
            f"expected a model that chooses one of two labels or more, got {config.num_labels} labels and "
            f"problem_type={config.problem_type!r}; a defense needs scores that sum to one"
        )
    if not isinstance(defense, Deferred):
        as_part("defense", defense, Defense, "mp.LPA.fit")  # type: ignore[type-abstract]
    require_wire(defense, decimals, top_k, config.num_labels)
    to_eval_mode(pipeline.model)
    served = copy.copy(pipeline)
    chosen = pipeline._postprocess_params.get("function_to_apply")
    served._postprocess_params = {"function_to_apply": chosen}
    served.postprocess = _Answers(pipeline.model, defense, decimals, top_k or config.num_labels)
    return served


class _Answers(NamedTuple):
    """From a model's logits for one input to the answer, in place of the pipeline's `postprocess`."""

    model: Any
    defense: Defense | Deferred
    decimals: int | None
    top_k: int

    def __call__(
        self,
        model_outputs: Any,
        top_k: int | None = None,
        function_to_apply: Any = None,
        _legacy: bool = False,
    ) -> list[dict[str, Any]]:
        function = "softmax" if function_to_apply is None else function_to_apply
        as_choice("function_to_apply", getattr(function, "value", function), ("softmax",))
        require_eval_mode([self.model])
        rows = torch.softmax(model_outputs["logits"].float(), dim=-1)
        wanted = self.top_k if top_k is None else top_k
        top: Any = on_the_wire(self.defense, rows, decimals=self.decimals, top_k=wanted)
        names = self.model.config.id2label
        pairs = zip(top.classes[0].tolist(), top.values[0].tolist(), strict=True)
        return [{"label": names[index], "score": score} for index, score in pairs]
