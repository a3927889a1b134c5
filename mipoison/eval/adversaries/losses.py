"""What an adversary may train for, instead of the squared error by which it is judged."""

from __future__ import annotations

from typing import Final

from torch import Tensor
from torchmetrics.functional.image import structural_similarity_index_measure

from mipoison.eval.metrics import ssim_width

LOSSES: Final = ("mse", "l1", "mse+ssim")
# What a whole unit of similarity is worth: about what separates a good reconstruction from the label's mean in MSE.
_SIMILARITY: Final = 0.02


def pixel_loss(
    name: str, made: Tensor, true: Tensor, image_shape: tuple[int, int] | None
) -> Tensor:
    """The loss of each of E systems, ``[E]``.

    Args:
        name: one of `LOSSES`: mean squared error; mean absolute error, which gives sharper edges and gray of the
            median; squared error and 0.02 (1 - SSIM), which rewards structure.
        made: reconstructed pixels ``[E, n, D]``, not cut.
        true: pixels ``[n, D]`` in [0, 1].
        image_shape: height and width, for the similarity.

    Example:
        >>> import torch
        >>> pixel_loss("l1", torch.tensor([[[0.5, 1.0]]]), torch.tensor([[0.0, 1.0]]), None)
        tensor([0.2500])
    """
    if name == "l1":
        return (made - true).abs().mean((1, 2))
    squared = (made - true).square().mean((1, 2))
    if name == "mse":
        return squared
    assert image_shape is not None
    systems, rows = made.shape[:2]
    similarity = structural_similarity_index_measure(
        made.reshape(-1, 1, *image_shape),
        true.repeat(systems, 1).reshape(-1, 1, *image_shape),
        sigma=ssim_width(image_shape),
        data_range=1.0,
        reduction="none",
    )
    assert isinstance(similarity, Tensor)
    return squared + _SIMILARITY * (1 - similarity.reshape(systems, rows).mean(1))


def require_loss(name: str, image_shape: tuple[int, int] | None) -> None:
    """Raises ValueError where the loss is unknown, or lacks the images' shape."""
    if name not in LOSSES:
        raise ValueError(f"loss: expected one of {', '.join(LOSSES)}, got {name!r}")
    if name == "mse+ssim" and image_shape is None:
        raise ValueError("image_shape: expected height and width of the images, for mse+ssim")
