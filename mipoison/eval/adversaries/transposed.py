"""The network of the decoder: transposed convolutions from a vector to an image."""

from __future__ import annotations

from torch import Tensor, nn


def decoding_network(classes: int, image_shape: tuple[int, int], channels: int) -> nn.Sequential:
    """Returns the decoder, ``[N, K]`` to ``[N, D]``."""
    layers: list[nn.Module] = [
        nn.Unflatten(1, (-1, 1, 1)),
        nn.ConvTranspose2d(classes, channels, 4, 1, 0),
    ]
    # From 4x4 by doublings, at least one, until the larger side is covered.
    doublings = max(1, (max(image_shape) - 1).bit_length() - 2)
    for doubling in range(doublings):
        after = max(1, channels // 2) if doubling + 1 < doublings else 1
        layers += [
            nn.BatchNorm2d(channels),
            nn.Tanh(),
            nn.ConvTranspose2d(channels, after, 4, 2, 1),
        ]
        channels = after
    return nn.Sequential(*layers, nn.Sigmoid(), _Middle(image_shape), nn.Flatten())


class _Middle(nn.Module):
    """Cuts the middle out of larger images."""

    def __init__(self, image_shape: tuple[int, int]) -> None:
        super().__init__()
        self.image_shape = image_shape

    def forward(self, images: Tensor) -> Tensor:
        """``[N, 1, S, S]`` to ``[N, 1, H, W]``."""
        height, width = self.image_shape
        top, left = (images.shape[-2] - height) // 2, (images.shape[-1] - width) // 2
        return images[..., top : top + height, left : left + width]
