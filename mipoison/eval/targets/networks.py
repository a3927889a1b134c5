"""Name the classifiers that can be defended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

Shape = tuple[int, int]
# Of an image that `cnn` takes.
LEAST_SIDE = 8


def mlp(image_shape: Shape, classes: int, *, width: int = 128) -> nn.Sequential:
    """One hidden layer."""
    pixels = image_shape[0] * image_shape[1]
    return nn.Sequential(nn.Linear(pixels, width), nn.ReLU(), nn.Linear(width, classes))


def cnn(
    image_shape: Shape, classes: int, *, channels: tuple[int, ...] = (16, 32, 64)
) -> nn.Sequential:
    """Convolutions of 3×3, each with ReLU and max pooling, and a linear layer."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, *image_shape))]
    for before, after in zip((1, *channels), channels, strict=False):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
    features = channels[-1] * _pooled(image_shape, len(channels))
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(features, classes))


def yang(image_shape: Shape, classes: int, *, width: int = 32) -> nn.Sequential:
    """The classifier of Yang et al. (CCS 2019) at a width that a CPU trains.

    Four times convolution of 3×3, batch normalisation, max pooling and ReLU, the channels doubling,
    then a layer of 5K, dropout, and a layer of K. As published: width 128, images of 64×64.
    """
    layers: list[nn.Module] = [nn.Unflatten(1, (1, *image_shape))]
    channels = [width * 2**block for block in range(4)]
    for before, after in zip([1, *channels], channels, strict=False):
        layers += [
            nn.Conv2d(before, after, 3, padding=1),
            nn.BatchNorm2d(after),
            nn.MaxPool2d(2),
            nn.ReLU(),
        ]
    features = channels[-1] * _pooled(image_shape, 4)
    head = [nn.Linear(features, 5 * classes), nn.Dropout(), nn.Linear(5 * classes, classes)]
    return nn.Sequential(*layers, nn.Flatten(), *head)


class Residual(nn.Module):
    """x + convolutions of x, with batch normalisation; halves the side and doubles the channels where told.

    Args:
        before: channels that come in.
        after: channels that go out; more than before: the side is halved.
    """

    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        stride = 1 if after == before else 2
        self.first = nn.Conv2d(before, after, 3, stride, 1, bias=False)
        self.second = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList(nn.BatchNorm2d(after) for _ in range(2))
        self.short = (
            nn.Conv2d(before, after, 1, stride, bias=False) if stride == 2 else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps ``[n, before, H, W]`` to ``[n, after, H', W']``."""
        h = torch.relu(self.norms[0](self.first(x)))
        return torch.relu(self.norms[1](self.second(h)) + self.short(x))


def resnet(
    image_shape: Shape, classes: int, *, channels: tuple[int, ...] = (16, 32, 64)
) -> nn.Sequential:
    """A residual network of one block a width (He et al., CVPR 2016), global average pooling, a linear layer."""
    layers: list[nn.Module] = [
        nn.Unflatten(1, (1, *image_shape)),
        nn.Conv2d(1, channels[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(channels[0]),
        nn.ReLU(),
    ]
    layers += [
        Residual(before, after)
        for before, after in zip((channels[0], *channels), channels, strict=False)
    ]
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels[-1], classes)
    )


def _pooled(image_shape: Shape, times: int) -> int:
    """Returns the pixels that are left after halving both sides several times."""
    height, width = (side >> times for side in image_shape)
    if height < 1 or width < 1:
        raise ValueError(
            f"expected sides of at least {1 << times} for this target, got images of {image_shape}; take 'mlp'"
        )
    return height * width


ARCHITECTURES: Mapping[str, Callable[[Shape, int], nn.Sequential]] = {
    "mlp": mlp,
    "cnn": cnn,
    "yang": yang,
    "resnet": resnet,
}
