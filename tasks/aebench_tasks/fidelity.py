"""Errors and similarities between reconstructions and their images, one number per image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

WINDOW = 7  # pixels
C1, C2 = 0.01**2, 0.03**2


def mean_squared_error(images: Tensor, x: Tensor) -> Tensor:
    """Mean over pixels: (B, C, H, W), (B, C, H, W) in [0, 1] -> (B,)."""
    return functional.mse_loss(images, x, reduction="none").flatten(1).mean(dim=1)


def psnr(images: Tensor, x: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of images (B, C, H, W) in [0, 1]: (B,) in decibels; infinite for equal images."""
    return -10 * torch.log10(mean_squared_error(images, x))


def ssim(images: Tensor, x: Tensor) -> Tensor:
    """Structural similarity (Wang et al. 2004, eq. 13) of images (B, C, H, W) in [0, 1]: (B,), 1 for equal images.

    Windows are uniform and have 7 x 7 pixels, or the image's size where that is smaller. The constants are 0.01² and
    0.03².
    """
    window = [min(WINDOW, side) for side in x.shape[2:]]
    pixels = window[0] * window[1]

    def mean(values: Tensor) -> Tensor:
        return functional.avg_pool2d(values, window, stride=1)

    mean_a, mean_b = mean(images), mean(x)
    unbiased = pixels / (pixels - 1) if pixels > 1 else 1.0
    variances = (mean(images.square()) - mean_a.square() + mean(x.square()) - mean_b.square()) * unbiased
    covariance = (mean(images * x) - mean_a * mean_b) * unbiased
    luminance = (2 * mean_a * mean_b + C1) / (mean_a.square() + mean_b.square() + C1)
    structure = (2 * covariance + C2) / (variances + C2)
    return (luminance * structure).flatten(1).mean(dim=1)
