"""Altered copies are what they are said to be."""

import pytest
import torch

from mipoison.eval.data.bundled import augment
from mipoison.eval.data.splits import Role


@pytest.fixture
def photos():
    pixels = torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(0))
    return Role(pixels.flatten(1), torch.tensor([4, 5, 6]), torch.tensor([40, 50, 60]))


def test_copies_follow_their_image(photos):
    more = augment(photos, copies=4, image_shape=(16, 16), seed=1)
    assert more.labels.tolist() == [4] * 4 + [5] * 4 + [6] * 4
    assert more.rows.tolist() == [40] * 4 + [50] * 4 + [60] * 4
    assert torch.equal(more.inputs[::4], photos.inputs)
    assert more.inputs.min() >= 0 and more.inputs.max() <= 1


def test_a_copy_is_shifted_mirrored_and_lit(photos):
    more = augment(photos, copies=20, image_shape=(16, 16), seed=1).inputs.reshape(-1, 16, 16)
    seen = set()
    for copy, source in zip(more, photos.inputs.repeat_interleave(20, 0), strict=True):
        image = source.reshape(16, 16)
        fits = []
        for mirrored in (False, True):
            for down in (-1, 0, 1):
                for right in (-1, 0, 1):
                    other = image.flip(1) if mirrored else image
                    inner = other[1 + down : 15 + down, 1 + right : 15 + right]
                    shown = copy[1:15, 1:15]
                    unclipped = shown < 1
                    light = shown[unclipped] / inner[unclipped]
                    if light.max() - light.min() < 1e-4 and 0.849 < float(light[0]) < 1.151:
                        fits.append((mirrored, down, right))
        assert len(fits) == 1
        seen.add(fits[0])
    assert len({kind[0] for kind in seen}) == 2 and len(seen) > 10


def test_alterations_depend_on_the_seed_alone(photos):
    torch.manual_seed(0)
    first = augment(photos, copies=3, image_shape=(16, 16), seed=1)
    torch.manual_seed(1)
    again = augment(photos, copies=3, image_shape=(16, 16), seed=1)
    other = augment(photos, copies=3, image_shape=(16, 16), seed=2)
    assert torch.equal(first.inputs, again.inputs)
    assert not torch.equal(first.inputs, other.inputs)
