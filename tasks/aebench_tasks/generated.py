"""Compares generated with real images by their features: distances between the two sets, and their overlap.

Features are (N, F) arrays, one row per image.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

Features = np.ndarray[Any, Any]


def frechet_distance(real: Features, generated: Features) -> float:
    """Fréchet distance between Gaussians fitted to two sets of features; 0 for equal ones (Heusel et al. 2017, eq. 6).

    Raises:
        ValueError: a set has fewer than two rows, or values that are not finite.
    """
    real, generated = _checked(real, generated)
    covariance, other_covariance = (np.atleast_2d(np.cov(features, rowvar=False)) for features in (real, generated))
    root = _square_root(covariance)
    # The product of two covariances has the same eigenvalues as this symmetric matrix: real and not negative.
    eigenvalues = np.linalg.eigvalsh(root @ other_covariance @ root)
    shift = real.mean(axis=0) - generated.mean(axis=0)
    shared = np.sqrt(eigenvalues.clip(0)).sum()
    distance = shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return max(0.0, float(distance))  # rounding can make it slightly negative


def kernel_distance(real: Features, generated: Features) -> float:
    """Squared maximum mean discrepancy under the kernel (x·y / F + 1)³, unbiased (Bińkowski et al. 2018, eq. 4).

    For two sets from the same distribution it is near 0, and can be slightly negative.

    Raises:
        ValueError: a set has fewer than two rows, or values that are not finite.
    """
    real, generated = _checked(real, generated)

    def kernel(x: Features, y: Features) -> Features:
        product: Features = (x @ y.T / x.shape[1] + 1) ** 3
        return product

    def mean_of_pairs(x: Features) -> float:
        values = kernel(x, x)
        return float((values.sum() - np.trace(values)) / (len(x) * (len(x) - 1)))

    return mean_of_pairs(real) + mean_of_pairs(generated) - 2 * float(kernel(real, generated).mean())


@dataclass(frozen=True)
class Overlap:
    """How the sets of generated and of real images overlap; in [0, 1], but density can exceed 1.

    The neighbourhood of an image is the ball around it that ends at its k-th nearest neighbour of its own set.

    Attributes:
        precision: share of generated images in the neighbourhood of a real one (Kynkäänniemi et al. 2019, eq. 2).
        recall: share of real images in the neighbourhood of a generated one (the same equation).
        density: mean number of real neighbourhoods around a generated image, over k (Naeem et al. 2020, eq. 4).
        coverage: share of real images with a generated one in their neighbourhood (Naeem et al. 2020, eq. 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Features, generated: Features, neighbours: int = 5) -> Overlap:
    """Precision, recall, density and coverage, with neighbourhoods up to the k-th nearest neighbour.

    Raises:
        ValueError: a set has no more than `neighbours` rows, or values that are not finite.
    """
    from sklearn.metrics import pairwise_distances

    real, generated = _checked(real, generated, at_least=neighbours + 1)
    between = pairwise_distances(real, generated)
    radius_of_real = _radius(pairwise_distances(real), neighbours)[:, None]
    radius_of_generated = _radius(pairwise_distances(generated), neighbours)[None, :]
    within = between < radius_of_real
    return Overlap(
        precision=float(within.any(axis=0).mean()),
        recall=float((between < radius_of_generated).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / neighbours),
        coverage=float(within.any(axis=1).mean()),
    )


def _radius(distances: Features, neighbours: int) -> Features:
    """The distance of each point to its k-th nearest other point: (N, N) -> (N,)."""
    kth: Features = np.partition(distances, neighbours, axis=1)[:, neighbours]
    return kth


def _square_root(matrix: Features) -> Features:
    eigenvalues, vectors = np.linalg.eigh(matrix)
    root: Features = vectors * np.sqrt(eigenvalues.clip(0)) @ vectors.T
    return root


def _checked(real: Features, generated: Features, at_least: int = 2) -> tuple[Features, Features]:
    for name, features in (("real", real), ("generated", generated)):
        if len(features) < at_least:
            raise ValueError(f"at least {at_least} {name} images are needed, got {len(features)}")
        if not np.isfinite(features).all():
            raise ValueError(f"the features of the {name} images are not finite")
    return real.astype(np.float64), generated.astype(np.float64)
