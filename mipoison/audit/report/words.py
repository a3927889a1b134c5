"""Say in sentences what was found, what it does not say, and how security catalogues call it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from mipoison.audit.report.findings import ENOUGH

# Shares from here on would be rounded to all.
_ALL: Final = 0.995
_THINGS: Final = {"images": "images", "table": "records", "embeddings": "embeddings"}
RULE: Final = (
    f"Of the defenses that win a gain of {ENOUGH:g} or more under the strongest adversary, those that move answers "
    "least, or at most a tenth farther; of these the one that wins most. Where none wins as much, the one with the "
    "largest gain. Only defenses that changed no label and gave one query one answer take part."
)
LIMITS: Final = (
    "The figures hold for these adversaries, these rows and these vectors. A stronger adversary reconstructs more; "
    "only a certified gain holds against all of them.",
    "The label leaks, and with it what the inputs of a label have in common. No defense here hides that.",
    "One answer about one input: who sees answers about several inputs of one person, or asks again with altered "
    "inputs, learns more. The adversaries do not hold the key, and do not simulate others.",
    "The adversary trains on rows like the victims'. One with fewer or other rows does worse.",
    "Errors are mean squares over all numbers of an input. Whether a person is recognised, or one sensitive attribute "
    "is told, can differ from that: look at the pictures or the table.",
    "Not tried: convolutional decoders, generative models of the inputs, and models that were trained on other data. "
    "What the classifier remembers of its training data is another question.",
    "The variant of the adversary that is strongest on the victims is reported, which favours the adversary.",
)
# Names as of the releases that are named: they change.
MAPPING: Final = (
    {
        "catalogue": "MITRE ATLAS",
        "id": "AML.T0024.001",
        "name": "Invert ML Model (in newer releases Invert AI Model)",
        "url": "https://atlas.mitre.org/techniques/AML.T0024.001",
        "relation": "the attack that was carried out, on the inputs behind answers",
    },
    {
        "catalogue": "MITRE ATLAS",
        "id": "AML.M0002",
        "name": "Passive ML Output Obfuscation (in newer releases Passive AI Output Obfuscation)",
        "url": "https://atlas.mitre.org/mitigations/AML.M0002",
        "relation": "the mitigation that the measured defenses are",
    },
    {
        "catalogue": "OWASP AISVS",
        "id": "C11.4",
        "name": "Model-Inversion Resistance",
        "url": "https://github.com/OWASP/AISVS",
        "relation": "evidence for its objective; the audit sets no query limits",
    },
    {
        "catalogue": "OWASP AI Exchange",
        "id": "2.3.2",
        "name": "Model inversion and membership inference; control OBSCURE CONFIDENCE",
        "url": "https://owaspai.org/goto/obscureconfidence/",
        "relation": "the threat, as far as inversion goes, and the control that the measured defenses are",
    },
)


def percent(share: float) -> str:
    """A share in whole percent.

    Example:
        >>> percent(0.414), percent(0.999)
        ('41 %', 'over 99 %')
    """
    if _ALL <= share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %"


def headline(kind: str, verdict: Mapping[str, Any]) -> str:
    """The verdict in one sentence.

    Example:
        >>> headline("images", {"leaks": True, "reduction": 0.41})
        'From one answer an adversary reconstructs these images with 41 % less error than from the label alone.'
    """
    things = _THINGS[kind]
    if not verdict["leaks"]:
        return (
            f"From one answer the adversaries of this audit reconstruct these {things} no better than from the label "
            "alone."
        )
    reduction = verdict["reduction"]
    told = percent(reduction) if reduction >= 0.01 else f"{100 * reduction:.1g} %"
    return f"From one answer an adversary reconstructs these {things} with {told} less error than from the label alone."


def spread(verdict: Mapping[str, Any], victims: int) -> str:
    """For whom that is so, how sure it is, and who the strongest adversary was."""
    low, high = verdict["interval"]
    sure = f"95 % interval is {100 * low:.0f} to {percent(high)}"
    who = f"The strongest adversary was {verdict['variant']}."
    if not verdict["leaks"]:
        low, high = verdict["chosen_interval"]
        return (
            f"Measured: {percent(verdict['reduction'])} less error over {victims} victims, which chance may have "
            "made: for the variants that an adversary would choose by rows of their own the 95 % interval is "
            f"{100 * low:.0f} to {percent(high)}. {who} More rows, or the preset standard, may find what this did not."
        )
    half = (
        f"half of the {victims} victims are reconstructed with at least {percent(verdict['median'])} less error"
        if verdict["median"] > 0
        else f"half of the {victims} victims are reconstructed no better than from their label"
    )
    return (
        f"{half[0].upper()}{half[1:]}, the most exposed tenth with at least "
        f"{percent(verdict['most_exposed_tenth'])} less. For the mean above the {sure}. {who}"
    )


def advice(
    name: str | None, one: Mapping[str, Any] | None, verdict: Mapping[str, Any], *, shown: str
) -> str:
    """What to deploy, in a sentence.

    Args:
        name: of the recommended defense; None: there is none.
        one: its numbers.
        verdict: the verdict's.
        shown: how the page calls the defense.
    """
    if not verdict["leaks"]:
        return "No defense is recommended: nothing beyond the label was measured that one could take away."
    if name is None or one is None:
        return "No defense is recommended: none that was measured wins anything under the strongest adversary."
    proved = one["certified_gain"]
    certified = " It has no certificate."
    if proved is not None:
        sure = percent(one["certificate"]["confidence"])
        certified = (
            f" Against any adversary whatever it takes away {percent(proved)} of it (certified, "
            f"{sure} confidence)."
        )
    return (
        f"{shown} takes away {percent(min(1.0, one['gain']))} of that advantage under the strongest adversary, at a "
        f"mean l1 of {one['utility']['l1_mean']:.2g} and with no label changed.{certified}"
    )
