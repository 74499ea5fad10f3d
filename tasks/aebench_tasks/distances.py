"""Distances between sets of images, in units of pixel intensity."""

from __future__ import annotations

import torch
from torch import Tensor


def nearest_rmse(images: Tensor, reference: Tensor) -> Tensor:
    """Root mean squared pixel difference from each image to its nearest reference image.

    Args:
        images: (N, C, H, W) in [0, 1].
        reference: (M, C, H, W) in [0, 1].

    Returns:
        (N,) in [0, 1].
    """
    flat_reference = reference.flatten(1)
    nearest = [torch.cdist(chunk, flat_reference).min(dim=1).values for chunk in images.flatten(1).split(1000)]
    return torch.cat(nearest) / flat_reference.shape[1] ** 0.5


def mean_pairwise_rmse(images: Tensor) -> float:
    """Mean root mean squared pixel difference over all pairs of different images (N, C, H, W)."""
    flat = images.flatten(1)
    return float(torch.pdist(flat).mean()) / flat.shape[1] ** 0.5
