"""Name the classifiers that can be defended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from torch import nn

Shape = tuple[int, int]


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


def _pooled(image_shape: Shape, times: int) -> int:
    """Returns the pixels that are left after halving both sides several times."""
    height, width = (side >> times for side in image_shape)
    if height < 1 or width < 1:
        raise ValueError(
            f"image_shape: expected sides of at least {1 << times} for this target, "
            f"got {image_shape}; take 'mlp'"
        )
    return height * width


ARCHITECTURES: Mapping[str, Callable[[Shape, int], nn.Sequential]] = {
    "mlp": mlp,
    "cnn": cnn,
    "yang": yang,
}
