"""Build a defense of your own on the row operations, with the guarantees of the library's."""

import torch
from torch import Tensor

import mipoison as mp
from mipoison.defenses import Defense


class TowardUniform(Defense):
    """Moves every row toward the uniform vector, by no more than epsilon in l1."""

    name = "toward uniform"
    saved = ("epsilon",)

    def __init__(self, *, epsilon: float, on_invalid: str = "raise", margin: float = 1e-3) -> None:
        super().__init__(on_invalid=on_invalid, margin=margin)
        self.epsilon = epsilon

    @property
    def ball(self) -> tuple[float, str]:
        """Keeping labels by the margin must not leave it."""
        return self.epsilon, "l1"

    def answer(self, p: Tensor) -> Tensor:
        """Projects the uniform vector onto the rows that keep p's label and lie within epsilon of p."""
        uniform = torch.full_like(p, 1 / p.shape[1])
        return mp.project(uniform, center=p, epsilon=self.epsilon, norm="l1")


def main() -> None:
    """Defends random rows, a broken one among them."""
    outputs = torch.softmax(torch.randn(100, 5), 1)
    answers = TowardUniform(epsilon=0.1)(outputs)
    assert (answers.argmax(1) == outputs.argmax(1)).all()
    assert ((answers - outputs).abs().sum(1) <= 0.1 + 1e-6).all()

    outputs[3] = float("nan")
    careful = TowardUniform(epsilon=0.1, on_invalid="label")
    answers = careful(outputs)
    print(
        f"rows answered by their label alone: {careful.failures}, all finite: {bool(answers.isfinite().all())}"
    )


if __name__ == "__main__":
    main()
