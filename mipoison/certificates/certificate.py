"""What a certificate holds and says."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Final

# With a larger share of rows alone with their answer a defense gets no certificate.
MOST_ALONE: Final = 0.9


@dataclass(frozen=True)
class Secret:
    """How often an adversary can guess a categorical secret of the inputs.

    Attributes:
        accuracy: upper bound for every adversary, in [0, 1].
        seen: the share of the held-out rows that the best guess for each answer gets right.
        label_accuracy: that share where the label alone is known.
        constant_accuracy: that share where nothing is known.
    """

    accuracy: float
    seen: float
    label_accuracy: float
    constant_accuracy: float


@dataclass(frozen=True)
class Certificate:
    """What no adversary can reconstruct from one answer; see `certify`.

    Squared errors are means over the entries of an input, in units of the inputs.

    Attributes:
        mse: lower bound for the mean squared error of every adversary, at `confidence`.
        mse_seen: an unbiased estimate of what is bounded, if no answer is the only one of its kind.
        label_mse: the same bound for answers that tell the label alone.
        label_mse_seen: and that estimate.
        confidence: of each bound.
        rows: held-out rows, copies of one input counted once.
        answers: different answers among theirs.
        bits: log2 of the most answers that one label has: what an answer tells beyond its label, at most.
        alone: share of the rows whose answer no other row has; they count as reconstructed.
        low, high: range of the inputs.
        secrets: by name, how often each secret can be guessed.
    """

    mse: float
    mse_seen: float
    label_mse: float
    label_mse_seen: float
    confidence: float
    rows: int
    answers: int
    bits: float
    alone: float
    low: float
    high: float
    secrets: Mapping[str, Secret] = field(default_factory=dict)

    def gain(self, undefended: float) -> float:
        """The certified gain: 0 where the bound is the error without a defense, 1 where it is that of the label alone.

        Args:
            undefended: mean squared error of the strongest adversary without a defense, in units of the inputs.

        Only `mse` is a bound: the error without a defense was measured, and that of the label is an estimate, too low
        where labels have hardly any rows.

        Returns:
            (mse − undefended) / (label_mse_seen − undefended), or NaN where the label tells as much as the vectors.
        """
        most = self.label_mse_seen - undefended
        return (self.mse - undefended) / most if most > 0 else math.nan

    def _why_none(self) -> str:
        """Why the bound is 0."""
        if self.alone > MOST_ALONE:
            return (
                f"{self.alone:.0%} of the rows have an answer of their own, so that nothing is known of how many "
                "inputs share it. Only a defense with few answers can be certified."
            )
        if self.mse_seen == 0:
            return (
                "inputs with the same answer do not differ, so that answers tell all of the input."
            )
        return "the rows are too few for the confidence. Pass more held-out rows."

    def to_json(self) -> str:
        """The fields as a JSON object."""
        return json.dumps(asdict(self), indent=1)

    def __str__(self) -> str:
        """What is certified, for whom, and what is left out."""
        sure = f"{100 * self.confidence:.10g}% confidence"
        told = [
            f"{self.rows} held-out inputs, {self.answers} different answers, at most {self.bits:.1f} bits beyond the "
            "label."
        ]
        if self.mse > 0:
            told += [
                f"No adversary reconstructs inputs with a mean squared error below {self.mse:.4g} ({sure}; estimate "
                f"{self.mse_seen:.4g}), whatever it computes and knows, the key included.",
                f"From the label alone: {self.label_mse_seen:.4g}.",
            ]
        else:
            told.append(f"No certificate: {self._why_none()}")
        if self.alone > 0 and self.mse > 0:
            told.append(
                f"{self.alone:.1%} of the rows have an answer of their own, and count as reconstructed."
            )
        for name, secret in self.secrets.items():
            told.append(
                f"{name}: guessed for at most {secret.accuracy:.1%} of the inputs ({sure}; seen {secret.seen:.1%}), "
                f"from the label alone {secret.label_accuracy:.1%}, from nothing {secret.constant_accuracy:.1%}."
            )
        told.append(
            "Of one answer about one input that is drawn like the held-out ones, by an adversary without other "
            "knowledge of that input. Several different inputs of one person tell more."
        )
        return "\n".join(told)
