"""Measure what a defense costs those who use the confidence vectors, and what a row takes."""

from __future__ import annotations

from time import perf_counter

import torch
from torch import Tensor

from mipoison.eval.methods import Defense

# A row counts as returned unchanged when no entry moved by more than float32 rounding.
_UNCHANGED = 1e-6


def utility(clean: Tensor, defended: Tensor, labels: Tensor | None) -> dict[str, float | None]:
    """Compares defended vectors with the undefended ones.

    Distances are measured in float64 from the renormalised clean vector. KL is
    KL(defended || clean), finite also where a defense serves zeros.

    Args:
        clean: ``[N, K]``, what the classifier says.
        defended: ``[N, K]``, what the client sees.
        labels: ``[N]``, the true classes; None: they are not known, and what needs them is None.

    Returns:
        accuracy, labels_changed (rows whose largest entry moved), unchanged (share of rows served
        as they were), mean and max of l1, l2, linf, kl (nats) and top_change (absolute change of
        the top confidence), and ece (15 bins). Of a client who acts only on confident answers, the threshold being
        the clean vectors' median top confidence: accepted (share of rows), accepted_accuracy (of those; 1 of none),
        and accept_changed (share of rows that the defense moved across the threshold).

    Example:
        >>> p = torch.tensor([[0.8, 0.2], [0.4, 0.6]])
        >>> q = torch.tensor([[0.7, 0.3], [0.4, 0.6]])
        >>> measured = utility(p, q, torch.tensor([0, 0]))
        >>> measured["accuracy"], measured["unchanged"], round(measured["l1_max"], 3)
        (0.5, 0.5, 0.2)
    """
    # Here, for it takes as long to import as torch, which commands that only read a run would wait for.
    from torchmetrics.functional.classification import multiclass_calibration_error

    p = clean.double() / clean.double().sum(-1, keepdim=True)
    q = defended.double()
    moved = (q - p).abs()
    divergence = torch.special.xlogy(q, q) - torch.special.xlogy(
        q, p.clamp_min(torch.finfo(torch.float32).tiny)
    )
    per_row = {
        "l1": moved.sum(-1),
        "l2": moved.square().sum(-1).sqrt(),
        "linf": moved.amax(-1),
        "kl": divergence.sum(-1).clamp_min(0.0),
        "top_change": (q.amax(-1) - p.amax(-1)).abs(),
    }
    threshold = p.amax(-1).median()
    before, accepted = p.amax(-1) >= threshold, q.amax(-1) >= threshold
    measured: dict[str, float | None] = {
        "accepted": float(accepted.double().mean()),
        "accepted_accuracy": None,
        "accept_changed": float((accepted != before).double().mean()),
        "accuracy": None,
        "labels_changed": float((q.argmax(-1) != p.argmax(-1)).sum()),
        "unchanged": float((per_row["linf"] <= _UNCHANGED).double().mean()),
        "ece": None,
    }
    if labels is not None:
        right = q.argmax(-1) == labels
        measured["accuracy"] = float(right.double().mean())
        measured["accepted_accuracy"] = (
            float(right[accepted].double().mean()) if accepted.any() else 1.0
        )
        # torchmetrics takes rows outside [0, 1] for logits, so rounding dust is cut.
        measured["ece"] = float(
            multiclass_calibration_error(q.clamp(0.0, 1.0), labels, q.shape[-1], n_bins=15)
        )
    for name, values in per_row.items():
        measured[f"{name}_mean"] = float(values.mean())
        measured[f"{name}_max"] = float(values.max())
    return measured


# Rows that are asked again, and by how much an entry may differ: an outside defense may round by its batch.
_ASKED_AGAIN, _SAME = 64, 1e-6


def time_per_row(defense: Defense, outputs: Tensor) -> tuple[Tensor, float]:
    """Defends all rows in one call and returns them with the seconds that one row took.

    A first call on a few rows, not timed, pays for whatever is set up once.
    """
    defense(outputs[:8])
    start = perf_counter()
    defended = defense(outputs)
    return defended.detach(), (perf_counter() - start) / len(outputs)


def repeats(defense: Defense, outputs: Tensor, answers: Tensor) -> float:
    """Asks a few rows again, and returns the share that got the answer of before: 1 unless randomness is fresh."""
    few = slice(_ASKED_AGAIN)
    changed = (defense(outputs[few]) - answers[few]).abs().amax(-1)
    return float((changed <= _SAME).double().mean())
