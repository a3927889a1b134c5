"""Let a classifier that has nothing to do with the target look at the reconstructions."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from mipoison.eval.architectures import LEAST_SIDE
from mipoison.eval.data import Role, Split
from mipoison.eval.data.roles import joined
from mipoison.eval.targets import accuracy, through, train_target


@dataclass(frozen=True)
class Evaluator:
    """A classifier of another architecture and seed, trained on everybody's rows but the victims' and strangers'.

    (Of images too small for convolutions it is a multilayer perceptron, as their target may be, of another seed.)

    Attributes:
        body: pixels ``[N, D]`` to features.
        head: features to logits.
        scale: mean squared distance between the features of two different victims.
        accuracy: share of the victims' true images that it classifies as labelled.
    """

    body: nn.Module
    head: nn.Module
    scale: float
    accuracy: float

    @classmethod
    def train(cls, parts: Split, *, target: str, seed: int) -> Evaluator:
        """Trains it for one split.

        Args:
            parts: the data by role.
            target: architecture of the target classifier, so as to take another one.
            seed: of the evaluator alone.
        """
        roles = (parts.private, parts.defender, parts.auxiliary)
        everyone = joined(*roles)
        of_mlp = target.partition("+")[0] == "mlp"
        model = train_target(
            everyone.where(everyone.labels >= 0),
            classes=parts.classes,
            seed=seed,
            architecture="cnn" if of_mlp and min(parts.image_shape) >= LEAST_SIDE else "mlp",
            image_shape=parts.image_shape,
            epochs=10,
        )
        body, head = model[:-1], model[-1]
        victims = parts.victims
        features = through(body, victims.inputs).double()
        # Over pairs of different rows the squared distance is twice the (unbiased) variance.
        scale = 2 * float(features.var(0).sum())
        return cls(body, head, scale, accuracy(model, victims))

    def judge(self, reconstructed: Tensor, victims: Role) -> dict[str, float]:
        """How much of the victims is recognised.

        Args:
            reconstructed: ``[M, D]``, pixels in [0, 1].
            victims: the rows behind them.

        Returns:
            identity: share of the reconstructions that are classified as the victim's true class (for faces, the
            person), in [0, 1]. feature_distance: mean squared distance to the true image's features, 0 for the same
            and 1 for as far as two victims are apart on average.
        """
        seen = through(self.body, reconstructed.clamp(0.0, 1.0))
        true = through(self.body, victims.inputs)
        apart = (seen.double() - true.double()).square().sum(1).mean()
        right = through(self.head, seen).argmax(1) == victims.labels
        return {
            "identity": float(right.double().mean()),
            "feature_distance": float(apart) / self.scale,
        }
