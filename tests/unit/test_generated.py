"""Distances and overlap of sets of features whose answers are known."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from aebench_tasks.generated import frechet_distance, kernel_distance, overlap


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_frechet_distance_of_gaussians_in_closed_form(rng):
    real = rng.normal(size=(4000, 3))
    moved = real * 2 + [3, 0, 0]  # covariance 4 I against I: 3 * (2 - 1)^2, and 9 for the mean
    centred = (real - real.mean(axis=0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(real, rowvar=False))).T
    assert frechet_distance(centred, centred * 2 + [3, 0, 0]) == pytest.approx(12, rel=1e-6)
    one, other = (np.cov(features, rowvar=False) for features in (real, moved))
    expected = ((real.mean(0) - moved.mean(0)) ** 2).sum() + np.trace(one + other - 2 * sqrtm(one @ other).real)
    assert frechet_distance(real, moved) == pytest.approx(expected, rel=1e-6)


def test_distances_are_near_zero_for_real_images_and_increase_with_noise(digits, reference_classifier):
    x = digits.test.x()
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    real = reference_classifier.features(digits.train.x()).numpy()
    noisy = [
        reference_classifier.features((x + amount * noise).clamp(0, 1)).numpy() for amount in (0, 0.1, 0.2, 0.4, 0.8)
    ]
    for distance in (frechet_distance, kernel_distance):
        distances = [distance(real, features) for features in noisy]
        assert distances == sorted(distances)
        assert distances[0] < 0.05 * distances[-1]
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_unbiased(rng):
    distances = [kernel_distance(rng.normal(size=(50, 4)), rng.normal(size=(40, 4))) for _ in range(400)]
    assert abs(np.mean(distances)) < 3 * np.std(distances) / 20
    assert min(distances) < 0


def test_overlap_of_equal_sets_and_of_sets_far_apart(rng):
    real = rng.normal(size=(500, 4))
    same = overlap(real, rng.normal(size=(500, 4)))
    assert same.precision > 0.9
    assert same.recall > 0.9
    assert same.density == pytest.approx(1, abs=0.15)
    assert same.coverage > 0.9
    assert vars(overlap(real, real + 100)) == {"precision": 0, "recall": 0, "density": 0, "coverage": 0}


def test_a_collapsed_sampler_has_low_recall_and_coverage(rng):
    real = np.concatenate([rng.normal(size=(250, 4)), 20 + rng.normal(size=(250, 4))])
    collapsed = overlap(real, rng.normal(size=(500, 4)))  # only one of two modes
    assert collapsed.precision > 0.9
    assert collapsed.density > 0.8
    assert 0.4 < collapsed.coverage < 0.6
    assert collapsed.recall < 0.6
    point = overlap(real, np.tile(real[:1], (500, 1)))  # a single image
    assert point.coverage < 0.05
    assert point.recall == 0


@pytest.mark.parametrize("function", [frechet_distance, kernel_distance, overlap])
def test_too_few_images_and_features_that_are_not_finite_raise(function, rng):
    with pytest.raises(ValueError, match=r"at least [26] generated images are needed, got 1"):
        function(rng.normal(size=(20, 3)), rng.normal(size=(1, 3)))
    with pytest.raises(ValueError, match="features of the real images are not finite"):
        function(np.full((20, 3), np.nan), rng.normal(size=(20, 3)))
