"""The terms of every report, each defined once; HTML and Markdown pages take their sentences from here."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import fill
from typing import Final


@dataclass(frozen=True)
class Term:
    """A term and its definition, without markup.

    Attributes:
        name: as tables and pages have it.
        short: the definition in a sentence, after "name: ".
        more: what a reader of the report should know beyond that.
    """

    name: str
    short: str
    more: str = ""


TERMS: Final = (
    Term(
        "MSE",
        "mean squared error of a reconstruction, per pixel, with pixels in [0, 1]; larger means that the adversary "
        "sees less.",
        "SSIM compares structure: 1 is a perfect picture, lower is better for privacy.",
    ),
    Term(
        "gain",
        "0 where a defense wins nothing, 1 where only the label still leaks.",
        "It is (MSE − MSE undefended) / (MSE label-only − MSE undefended), each MSE undefended under the same kind of "
        "adversary. Above 1 the adversary was misled: common for the clean adversary, and possible for the standard "
        "one, which does not fall back on the label as the adaptive one does.",
    ),
    Term(
        "g1",
        "gain under the clean adversary, an inversion model trained on undefended vectors that meets defended ones.",
        "This is someone who does not know that there is a defense, and the weakest test: a defense that is good only "
        "here protects against nothing else. The best of its variants on the victims.",
    ),
    Term(
        "g2",
        "gain under the standard adversary, an MLP trained on raw defended vectors.",
        "It gets them by asking the defended system about images of its own.",
    ),
    Term(
        "g3",
        "gain under the adaptive adversary, the strongest on the victims of wide MLPs on raw and logarithmic features, "
        "their means, nearest neighbours and label only.",
        "It is trained on defended vectors as the standard one is, with larger networks for longer. One network reads "
        "logarithms down to the smallest entries: those of a confident classifier tell as much as the large ones of a "
        "softened one. The best variant on the victims is the worst case: in reality the adversary cannot know which "
        "one that is. The chosen variant, trained again on all rows, is among them.",
    ),
    Term(
        "g3 chosen",
        "the same with the variant that the adversary would choose by the rows that it kept back, trained again on all "
        "of its rows.",
    ),
    Term(
        "median",
        "half of the victims gain less, each under the adaptive adversary unless a column says otherwise.",
        "The mean hides who is protected. Negative: that victim is reconstructed better than without the defense.",
    ),
    Term("worst tenth", "the least protected tenth of the victims gain less than this."),
    Term(
        "denoiser",
        "gain under an adversary who also holds the undefended answers to their own queries, counted from its own "
        "undefended error.",
        "Such answers may come from a model much like the target. One network learns to undo the defense, another to "
        "spot rows that left as they came, and one trained on undefended vectors reconstructs. Where a few rows are "
        "spared, it sees what the adaptive adversary does not. The stronger of it and of ModelGuard's recovery attack, "
        "which adds answers that it simulates under keys of its own.",
    ),
    Term(
        "all",
        "gain under the stronger of the adaptive adversary and the denoiser, counted from the smaller of their "
        "undefended errors.",
    ),
    Term(
        "certified",
        "the gain that no adversary can lower, at 95 % confidence: that of a lower bound for the error of all of them.",
        "It exists for defenses with few different answers, and is estimated on the auxiliary rows and the victims. It "
        "counts from the smallest measured error without a defense to the variance of the inputs behind a label.",
    ),
    Term(
        "identity",
        "share of the adaptive adversary's reconstructions that an independent classifier takes for the victim's "
        "class.",
        "The classifier has another architecture and was trained on everybody's images but the victims'. For faces "
        "the class is the person; the label alone gives most of it away.",
    ),
    Term(
        "distance",
        "how far that classifier's features of a reconstruction are from those of the true image: 0 the same, 1 as far "
        "as two victims are apart.",
    ),
    Term(
        "label-only ceiling",
        "the error of an adversary who keeps the class label alone and answers with the average image of that class.",
        "An adversary can always do that, so this error is the most that a defense which keeps the label can hope for "
        "against the adaptive adversary.",
    ),
    Term(
        "l1",
        "mean l1 distance between served and true vectors, as realised on the victims.",
        "The sum of absolute changes, between 0 and 2. KL is the Kullback-Leibler divergence of the served from the "
        "true vector in nats; top-confidence change the absolute change of the largest entry.",
    ),
    Term("largest", "the largest l1 of a victim."),
    Term("unchanged", "share of the victims' vectors that were served exactly as they were."),
    Term(
        "decisions changed, accuracy above",
        "share of rows that the defense moved across the threshold of a client who acts only on confident answers, and "
        "the accuracy of the rows above it.",
        "The threshold is the median top confidence of the undefended vectors.",
    ),
    Term(
        "T",
        "softmax temperature that the classifier is served at.",
        "T = 1 is the usual, confident vector; a larger T flattens it, which shows more of the small entries and so "
        "leaks more.",
    ),
    Term(
        "mean ± sd",
        "mean and standard deviation over the seeds.",
        "Each seed draws a new split of the data and trains everything anew. Differences within one or two sd are not "
        "differences.",
    ),
    Term(
        "a dash",
        "for some seed, that adversary learns nothing beyond the label even without a defense, so its gain is "
        "undefined; or no error is certified above that without a defense; or true classes are not known.",
    ),
    Term("fit, µs", "seconds to fit the defense, microseconds a row, on one thread."),
)
_BY_NAME: Final = {term.name: term for term in TERMS}
# What the columns of the Markdown tables mean.
COLUMN_TERMS: Final = (
    *("gain", "g2", "g3", "certified", "median", "worst tenth", "denoiser", "all", "identity"),
    *("l1", "largest"),
    *("unchanged", "fit, µs", "mean ± sd", "a dash"),
)


def definition(name: str) -> str:
    """A term's definition in a sentence."""
    return _BY_NAME[name].short


def as_markdown(*names: str) -> str:
    r"""The terms as a Markdown list.

    Example:
        >>> as_markdown("largest")
        '- *largest*: the largest l1 of a victim.\n'
    """
    lines = (f"- *{name}*: {definition(name)}" for name in names)
    return "".join(fill(line, 120, subsequent_indent="  ") + "\n" for line in lines)
