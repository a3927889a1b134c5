"""What the answers of each defense certify against every adversary, on rows that it was not fitted on."""

from __future__ import annotations

import torch
from torch import Tensor

from mipoison.certificates import certify
from mipoison.eval.data.splits import Split, joined


def certificates(
    parts: Split, queries: Tensor, served: Tensor, bare: int, *, undefended: float
) -> list[dict[str, float | None]]:
    """The certificate of each defense, and its gain; see `mipoison.certify`.

    Args:
        parts: the data.
        queries: answers to the auxiliary rows, [E, n, K].
        served: answers to the victims, [E, M, K].
        bare: which of the E is no defense.
        undefended: mean squared error of the strongest adversary without a defense.

    Returns:
        numbers by name for each defense. "gain" is None where nothing is certified, which is so for a defense that
        gives hardly two rows the same answer, where the error is not bounded above that of an adversary without a
        defense, and where the label tells as much as the undefended vectors.
    """
    # Auxiliary rows of other people or classes are no users' rows, and left out.
    known = parts.auxiliary_known
    held = joined(parts.auxiliary, parts.victims) if known else parts.victims
    answers = torch.cat((queries, served), 1) if known else served
    made = [certify(q, answers[bare], held.inputs, groups=held.rows) for q in answers]
    gains = [one.gain(undefended) for one in made]
    return [
        {
            "gain": gain if gain > 0 else None,
            "mse": one.mse,
            "mse_seen": one.mse_seen,
            "label_mse_seen": one.label_mse_seen,
            "rows": one.rows,
            "answers": one.answers,
            "bits": one.bits,
            "alone": one.alone,
        }
        for one, gain in zip(made, gains, strict=True)
    ]
