"""Metrics agree with values worked out by hand."""

import math

import pytest
import torch

from mipoison.eval.metrics import RowGain, gain, psnr, row_errors, row_gain, ssim


def test_row_errors_keep_leading_dimensions():
    reconstructed = torch.zeros(3, 4, 9)
    assert torch.equal(row_errors(reconstructed, torch.ones(4, 9)), torch.ones(3, 4).double())


def test_psnr_of_known_errors():
    assert psnr(1.0) == 0.0
    assert psnr(0.001) == pytest.approx(30.0)


@pytest.mark.parametrize("side", [8, 9, 16, 32])
def test_ssim_has_a_window_for_every_size(side):
    images = torch.rand(5, side * side, generator=torch.Generator().manual_seed(0))
    assert ssim(images, images, image_shape=(side, side)) == 1.0
    noisy = (images + 0.3 * torch.randn_like(images)).clamp(0, 1)
    assert ssim(noisy, images, image_shape=(side, side)) < 0.95


def test_ssim_of_many_images_is_the_mean_of_their_own():
    generator = torch.Generator().manual_seed(0)
    images, noisy = torch.rand(2, 700, 64, generator=generator)
    parts = [ssim(noisy[i::7], images[i::7], image_shape=(8, 8)) for i in range(7)]
    whole = ssim(noisy, images, image_shape=(8, 8))
    assert whole == pytest.approx(sum(parts) / 7, abs=1e-8)


def test_ssim_of_flat_images_is_the_luminance_term():
    dark, light = torch.full((1, 64), 0.2), torch.full((1, 64), 0.8)
    expected = (2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4)
    assert ssim(dark, light, image_shape=(8, 8)) == pytest.approx(expected, abs=1e-6)


def test_gain_is_0_undefended_and_1_at_the_ceiling():
    assert gain(0.02, 0.02, 0.04) == 0.0
    assert gain(0.04, 0.02, 0.04) == 1.0


def test_mean_of_row_gains_is_the_gain():
    generator = torch.Generator().manual_seed(0)
    before, after = torch.rand(2, 1000, generator=generator)
    spread = row_gain(after, before, 0.9)
    gains = (after - before) / (0.9 - before.mean())
    assert spread.median == pytest.approx(float(gains.quantile(0.5)), abs=1e-4)
    assert spread.worst_decile == pytest.approx(float(gains.quantile(0.1)), abs=1e-4)
    assert spread.worst_decile < spread.median
    mean = gain(float(after.mean()), float(before.mean()), 0.9)
    assert mean == pytest.approx(float(gains.mean()), abs=1e-4)


def test_a_minority_moved_shows_in_the_median():
    before = torch.full((100,), 0.01)
    after = before.clone()
    after[:30] = 0.5
    spread = row_gain(after, before, 0.04)
    assert spread.median == 0.0 and not math.isnan(spread.worst_decile)


def test_who_makes_less_of_vectors_than_of_labels_measures_no_gain():
    assert gain(0.03, 0.02, 0.019) is None
    errors = torch.tensor([0.02, 0.04])
    assert row_gain(errors, errors, 0.029) == RowGain(None, None)
    assert row_gain(errors, errors, 0.031) == RowGain(0.0, 0.0)
    assert gain(0.03, 0.02, 0.02) is None
