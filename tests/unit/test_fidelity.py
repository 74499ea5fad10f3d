"""Structural similarity and signal-to-noise ratio on images with known values."""

import numpy as np
import pytest
import torch

from aebench_tasks.fidelity import mean_squared_error, psnr, ssim


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(4, 2, 16, 12, generator=generator)
    return x, (x + 0.2 * torch.randn(x.shape, generator=generator)).clamp(0, 1)


def test_equal_images(images):
    x, _ = images
    assert torch.allclose(ssim(x, x), torch.ones(4))
    assert torch.isinf(psnr(x, x)).all()
    assert not mean_squared_error(x, x).any()


def test_ssim_window_by_window(images):
    x, noisy = (image.double().numpy() for image in images)
    found = []
    for channel in range(2):
        for top in range(16 - 6):
            for left in range(12 - 6):
                a, b = (image[0, channel, top : top + 7, left : left + 7].ravel() for image in (x, noisy))
                (variance_a, covariance), (_, variance_b) = np.cov(a, b)
                luminance = (2 * a.mean() * b.mean() + 1e-4) / (a.mean() ** 2 + b.mean() ** 2 + 1e-4)
                found.append(luminance * (2 * covariance + 9e-4) / (variance_a + variance_b + 9e-4))
    assert float(ssim(*images)[0]) == pytest.approx(np.mean(found), abs=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 40), (1, 1, 1)])
def test_ssim_of_flat_images_is_that_of_their_brightness(shape):
    dark, bright = torch.full((2, *shape), 0.2), torch.full((2, *shape), 0.6)
    assert ssim(dark, bright).tolist() == pytest.approx([(2 * 0.2 * 0.6 + 1e-4) / (0.04 + 0.36 + 1e-4)] * 2, rel=1e-3)


def test_psnr_in_decibels():
    assert psnr(torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.1)).tolist() == pytest.approx([20], rel=1e-5)
