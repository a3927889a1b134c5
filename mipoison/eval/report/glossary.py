"""Explain the report's words to a reader who meets them for the first time."""

from __future__ import annotations

from mipoison.eval.adversaries.repeated import WorstCases

INTRODUCTION = """
<p>A classifier behind an interface answers every image with a <em>confidence vector</em>: one
number per class, summing to 1. These numbers tell more than the class. An adversary who asks about
images of their own can train an <em>inversion model</em> that turns a confidence vector back into
a picture, and then reconstruct the images that other people sent. A <em>defense</em> changes the
vectors a little before they leave. This report measures how much worse the reconstructions become
(privacy), and how much the vectors were changed for it (utility).</p>
"""

GLOSSARY = """
<dl>
<dt>MSE</dt><dd>Mean squared error of a reconstruction, per pixel, with pixels between 0 (black) and
1 (white). Higher means that the adversary sees less. SSIM compares structure: 1 is a perfect
picture, lower is better for privacy.</dd>
<dt>denoiser</dt><dd>An adversary who also holds the <em>undefended</em> answers to their own queries, say from a model
of their own that is much like the target. One network learns to undo the defense, another to spot rows that left as
they came, and one trained on undefended vectors reconstructs. Its gain is counted from that network's error without a
defense. Where a few rows are spared, it sees what A3 does not. <em>All</em> is the gain under the stronger of A3 and
the denoiser, counted from the smaller of their errors without a defense.</dd>
<dt>evaluator: identity and distance</dt><dd>A classifier of another architecture, trained on everybody's images but
the victims', looks at A3's reconstructions. <em>Identity</em> is the share that it takes for the victim's class (for
faces: the person); the label alone gives most of it away. <em>Distance</em> is how far its features of a
reconstruction are from those of the true image: 0 the same, 1 as far as two victims are apart.</dd>
<dt>A1, clean</dt><dd>An adversary whose inversion model was trained on <em>undefended</em> vectors
and who now meets defended ones: someone who does not know that there is a defense. The weakest
test; a defense that shines only here protects nobody. Best of its variants, judged on the
victims.</dd>
<dt>A2, standard</dt><dd>An adversary trained on <em>defended</em> vectors, by asking the defended
system about images of its own: a small network on the vectors as they come.</dd>
<dt>A3, adaptive</dt><dd>An adversary trained on defended vectors that tries everything at its
disposal: A2's network, larger networks trained longer, with logarithms of the vector as well (one of them
down to the smallest entries: a confident classifier's tell as much as a softened one's large ones),
the mean of these networks' answers, nearest-neighbour look-ups that need no training,
and the label alone. Reported twice: with the variant that does best on the victims themselves (<em>g3</em>, the
worst case; in reality the adversary cannot know which one that is), and with the variant that the
adversary would choose by the rows it kept back (<em>g3 chosen</em>).</dd>
<dt>label-only ceiling</dt><dd>An adversary can always throw the confidences away, keep the class
label and answer with the average image of that class. A defense that keeps the label cannot stop
this, so the error of the label-only adversary is the most it can hope for against A3.</dd>
<dt>gain (g1, g2, g3 for A1, A2, A3)</dt><dd>(MSE - MSE undefended) / (MSE label-only - MSE
undefended), each MSE undefended under the same kind of adversary: 0 means that the defense won
nothing, 1 that only the label still leaks. Above 1 the adversary was misled: common for A1, and
possible for A2, who does not fall back on the label; A3 does. A dash: for some seed, that kind of adversary
makes no more of undefended vectors than of their labels, and measures no defense.</dd>
<dt>median and worst tenth</dt><dd>The mean hides who is protected. The gain is also computed for
each victim; half of the victims gain less than the <em>median</em>, and the least protected tenth
gains less than the <em>worst tenth</em> value. Negative: that victim is reconstructed better than
without the defense. <em>Unchanged</em> is the share of vectors served exactly as they were.</dd>
<dt>l1, KL, top change</dt><dd>How far the served vector is from the true one: the sum of absolute
changes (between 0 and 2), the Kullback-Leibler divergence of the served from the true vector
in nats, and the absolute change of the largest confidence. All are <em>realised</em> values,
measured on the victims' vectors.</dd>
<dt>decisions changed, accuracy above</dt><dd>A client may act only on answers whose top confidence reaches a
threshold. At the median of the undefended vectors: the share of rows that the defense moved across it, and the accuracy
of the rows above it.</dd>
<dt>T</dt><dd>Softmax temperature that the classifier is served at. T = 1 is the usual, confident
vector; a larger T flattens it, which shows more of the small entries and so leaks more.</dd>
<dt>mean ± sd</dt><dd>Over the seeds: each seed draws a new split of the data and trains everything
anew. Differences within one or two sd are not differences.</dd>
</dl>
"""

LIMITS = """
<ul>
<li>Every figure is empirical: it holds for these adversaries on this data. It is no proof, and it
is not differential privacy. A stronger adversary can only lower a gain.</li>
<li>The label still leaks in every row of the tables, and with it the average image of its
class.</li>
<li>Not tried here: convolutional decoders where none is among the variants, generative priors, and, but for the
defenses that the page shows so, an adversary that simulates the defense with keys of its own, one that asks repeatedly
with slightly altered images and averages, and one that holds the key. Each can be stronger than A3 as measured.</li>
<li>A3's worst case is the best of several variants on the victims. Choosing on the victims favours
the adversary; having only these variants favours the defense.</li>
<li>The adversary trains on most of its rows and keeps the rest back. One that chose its
variant and then trained again on all of them would be a little stronger, defended or not.</li>
<li>Small grey images, and a small classifier: easy to repeat, not a deployment. Gains on
other data can differ.</li>
<li>Compare rows at similar realised l1, not at similar nominal strength.</li>
<li>The times were measured on a shared machine with one thread, once: take their order of
magnitude.</li>
</ul>
"""


def worst_cases(cases: WorstCases) -> str:
    """Says what the adversaries do who ask again or know more."""
    return f"""
<p>The same adversaries with more to learn from. One sends every query and every victim's input several times, altered
by Gaussian noise of {cases.jitter:g} in every pixel, and averages the answers (1: asked once; exact repeats get equal
answers of a keyed defense, and gain nothing). One knows all but the key, and trains on {cases.draws} answers a row
under keys of its own beside the real one. One holds the key, and trains on the answers to {cases.altered} more copies
of each row with noise of {cases.altering:g}. Whoever holds the key can do all of that: the last column is the worst
case.</p>
"""
