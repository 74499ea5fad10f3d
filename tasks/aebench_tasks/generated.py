"""Generated images against real ones, by their features: how far apart two sets lie, and where they overlap.

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
    # The product of two covariances has the eigenvalues of this symmetric one, which are real and not negative.
    eigenvalues = np.linalg.eigvalsh(root @ other_covariance @ root)
    shift = real.mean(axis=0) - generated.mean(axis=0)
    shared = np.sqrt(eigenvalues.clip(0)).sum()
    distance = shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * shared
    return max(0.0, float(distance))  # rounding can take it just below


def kernel_distance(real: Features, generated: Features) -> float:
    """Squared maximum mean discrepancy under the kernel (x·y / F + 1)³, unbiased (Bińkowski et al. 2018, eq. 4).

    Near 0 for sets from one distribution, where it can be slightly negative.

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
    """Where generated images lie among real ones: each is a share, but density can exceed 1.

    Attributes:
        precision: generated images within reach of some real one (Kynkäänniemi et al. 2019, eq. 2).
        recall: real images within reach of some generated one (the same, with the roles exchanged).
        density: real images that have a generated one within reach, on average, over k (Naeem et al. 2020, eq. 4).
        coverage: real images with a generated one within their own reach (Naeem et al. 2020, eq. 5).
    """

    precision: float
    recall: float
    density: float
    coverage: float


def overlap(real: Features, generated: Features, neighbours: int = 5) -> Overlap:
    """Precision, recall, density and coverage; an image's reach ends at its k-th nearest neighbour of its own set.

    Raises:
        ValueError: a set has no more than `neighbours` rows, or values that are not finite.
    """
    from sklearn.metrics import pairwise_distances

    real, generated = _checked(real, generated, at_least=neighbours + 1)
    between = pairwise_distances(real, generated)
    reach_of_real = _reach(pairwise_distances(real), neighbours)[:, None]
    reach_of_generated = _reach(pairwise_distances(generated), neighbours)[None, :]
    within = between < reach_of_real
    return Overlap(
        precision=float(within.any(axis=0).mean()),
        recall=float((between < reach_of_generated).any(axis=1).mean()),
        density=float(within.sum(axis=0).mean() / neighbours),
        coverage=float(within.any(axis=1).mean()),
    )


def _reach(distances: Features, neighbours: int) -> Features:
    """Distance of each row's point to its k-th nearest other one."""
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
