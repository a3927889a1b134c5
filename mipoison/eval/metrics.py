"""Measure how much of the inputs was reconstructed, and what the defense won.

All errors are on pixels in [0, 1]; images are flat rows ``[N, D]`` or ``[E, N, D]``. `LOSSES` are the measures that
an adversary can train for.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

# Images whose similarity is computed together: in float64 the windows of all pixels are laid out
# in memory, about 4 MB an image of 28x28, and few at a time stay in the cache.
_ROWS = 4


def row_errors(reconstructed: Tensor, inputs: Tensor) -> Tensor:
    """Returns each row's mean squared pixel error, ``[..., N]``, in float64.

    Example:
        >>> row_errors(torch.tensor([[0.0, 1.0]]), torch.tensor([[0.5, 1.0]]))
        tensor([0.1250], dtype=torch.float64)
    """
    return (reconstructed.double() - inputs.double()).square().mean(-1)


def psnr(mse: float) -> float:
    """Returns the peak signal-to-noise ratio of a mean squared error, in decibels, peak 1.

    Example:
        >>> psnr(0.01)
        20.0
    """
    return float(-10.0 * torch.log10(torch.tensor(mse, dtype=torch.float64)))


def ssim_width(image_shape: tuple[int, int]) -> float:
    """Returns sigma of the Gaussian window that fits the image: 1.5, or less for sides below 11 pixels.

    Example:
        >>> ssim_width((28, 28)), round(ssim_width((8, 8)), 2)
        (1.5, 0.86)
    """
    reach = min(5, (min(image_shape) - 1) // 2)
    # torchmetrics derives the window's half width as int(3.5 sigma + 0.5).
    return reach / 3.5 if reach < 5 else 1.5


def _similarity(made: Tensor, true: Tensor, **options: Any) -> Tensor:
    """The structural similarity of torchmetrics."""
    # Here, for it takes as long to import as torch, which commands that only read a run would wait for.
    from torchmetrics.functional.image import structural_similarity_index_measure

    similarity = structural_similarity_index_measure(made, true, **options)
    assert isinstance(similarity, Tensor)
    return similarity


def ssim(reconstructed: Tensor, inputs: Tensor, *, image_shape: tuple[int, int]) -> float:
    """Returns the mean structural similarity, data range 1, with a window that fits the image.

    The Gaussian window is the usual 11 pixels wide (sigma 1.5), or the largest odd width below
    the image's side with sigma in proportion: 7 pixels (sigma 0.86) for 8x8 images.

    Args:
        reconstructed: ``[N, D]`` in [0, 1].
        inputs: ``[N, D]`` in [0, 1].
        image_shape: height and width, D their product.

    Example:
        >>> images = torch.rand(4, 64)
        >>> ssim(images, images, image_shape=(8, 8))
        1.0
    """
    height, width = image_shape
    similarities = []
    for made, true in zip(reconstructed.split(_ROWS), inputs.split(_ROWS), strict=True):
        similarity = _similarity(
            made.reshape(-1, 1, height, width).double(),
            true.reshape(-1, 1, height, width).double(),
            sigma=ssim_width(image_shape),
            data_range=1.0,
            reduction="none",
        )
        assert isinstance(similarity, Tensor)
        similarities.append(similarity)
    return round(float(torch.cat(similarities).mean()), 9)


def gain(mse: float, undefended: float, label_only: float) -> float | None:
    """Returns the share of the way from undefended to label-only that an error has gone.

    0: the defense won nothing. 1: only the label leaks. Both reference errors are measured on
    the undefended system, ``undefended`` under the same family of adversaries as ``mse``. None: that family
    learns nothing beyond the label even without a defense, so its gain is undefined.

    Example:
        >>> gain(0.03, 0.02, 0.04)
        0.5
    """
    if undefended >= label_only:
        return None
    return round((mse - undefended) / (label_only - undefended), 12)


@dataclass(frozen=True)
class RowGain:
    """How the gain is spread over the victims; None where there is no `gain`.

    Attributes:
        median: of the per-row gain.
        worst_decile: the gain below which the least protected tenth of the victims lie.
    """

    median: float | None
    worst_decile: float | None


def row_gain(errors: Tensor, undefended: Tensor, label_only_mean: float) -> RowGain:
    """Returns the distribution of (e_i - e_i0) / (mean label-only - mean undefended error).

    Args:
        errors: ``[N]``, each victim's error under the defense.
        undefended: ``[N]``, the same victims' errors without it.
        label_only_mean: mean error of the label-only adversary.

    Example:
        >>> row_gain(torch.tensor([0.2, 0.4]), torch.tensor([0.1, 0.1]), 0.3)
        RowGain(median=1.0, worst_decile=0.6)
    """
    errors, undefended = errors.double(), undefended.double()
    if undefended.mean() >= label_only_mean:
        return RowGain(None, None)
    gains = (errors - undefended) / (label_only_mean - undefended.mean())
    median, decile = torch.quantile(gains, torch.tensor([0.5, 0.1], dtype=torch.float64)).tolist()
    return RowGain(median=round(median, 6), worst_decile=round(decile, 6))


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
    similarity = _similarity(
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
