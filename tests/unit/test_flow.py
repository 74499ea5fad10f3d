"""The flow sampler follows densities that no Gaussian has, agrees with Gaussian codes, and bears degenerate ones."""

import math

import pytest
import torch
from scipy.spatial.distance import cdist
from scipy.stats import wasserstein_distance
from torch import Generator, nn

from aebench.contracts import AebenchError, Autoencoder, Bernoulli, ModelSpec, Params
from aebench_tasks.samplers import gaussian

pytest.importorskip("zuko", reason="zuko is not installed; `tox -e optional` installs it")

from aebench_flow import Whitening, fit


class ShowsItsCodes(Autoencoder):
    """Its images are its codes, without any limit."""

    def __init__(self, width):
        super().__init__(ModelSpec((1, 1, width), width, Params(), None, Bernoulli()), nn.Identity(), nn.Identity())

    def decode_images(self, z):
        return z


def generator(seed=0):
    return Generator().manual_seed(seed)


@torch.no_grad()
def draw(codes, n=2000, fit=fit):
    return fit(ShowsItsCodes(codes.shape[1]), codes, generator(1))(n, generator(2))


def ring(n, seed=0):
    """Codes around a circle of radius 1, in a corner of a space of four dimensions, one of which is constant."""
    angle = 2 * math.pi * torch.rand(n, generator=generator(seed))
    radius = 1 + 0.1 * torch.randn(n, generator=generator(seed + 1))
    x, y = radius * angle.cos(), radius * angle.sin()
    return torch.stack([x + y + 5, x - y, torch.full((n,), 7.0), 0.01 * y], dim=1)


def radii(codes):
    x, y = (codes[:, 0] - 5 + codes[:, 1]) / 2, (codes[:, 0] - 5 - codes[:, 1]) / 2
    return x.hypot(y)


def energy_distance(one, other):
    """Of the distributions behind two sets of codes; 0 only if they are the same (Székely & Rizzo 2013)."""
    return 2 * cdist(one, other).mean() - cdist(one, one).mean() - cdist(other, other).mean()


def test_samples_of_a_ring_lie_on_the_ring():
    codes, truth = ring(2000), ring(2000, seed=10)
    by_flow, by_gaussian = draw(codes), draw(codes, fit=gaussian)
    assert energy_distance(by_flow, truth) < 0.05 * energy_distance(by_gaussian, truth)
    off = [wasserstein_distance(radii(drawn), radii(truth)) for drawn in (by_flow, by_gaussian)]
    assert off[0] < 0.1 * off[1]
    torch.testing.assert_close(by_flow[:, 2], torch.full((2000,), 7.0))


def test_samples_of_gaussian_codes_have_their_mean_and_covariance():
    factor = torch.tensor([[3.0, 0.0, 0.0], [2.0, 1.0, 0.0], [0.0, -1.0, 0.1]])
    codes = torch.randn(4000, 3, generator=generator()) @ factor.T + 10
    samples = draw(codes, 4000)
    deviation = codes.std(dim=0)
    assert ((samples.mean(dim=0) - codes.mean(dim=0)).abs() / deviation).max() < 0.1
    error = (samples.T.cov() - codes.T.cov()) / deviation.outer(deviation)
    assert error.abs().max() < 0.1


def test_wide_codes_keep_their_covariance_and_the_shape_of_their_principal_direction():
    """Directions of small variance, beyond those that the flow transforms, are Gaussian."""
    codes = torch.randn(4000, 80, generator=generator()) @ torch.randn(80, 80, generator=generator(3)).T
    codes[:, 0] = 100 * codes[:, 0].sign() + codes[:, 0]
    white = Whitening.of(codes).whiten(draw(codes, 4000))
    assert white.shape == (4000, 80)
    torch.testing.assert_close(white.var(dim=0), torch.ones(80), atol=0.25, rtol=0)
    assert (white[:, 0].abs() < 0.5).float().mean() < 0.02  # 0.38 of a Gaussian


def test_the_state_of_the_global_generator_changes_nothing():
    samples = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            samples.append(draw(ring(500)))
    assert torch.equal(*samples)


@pytest.mark.parametrize(("direction", "rank"), [((1.0, 2.0, 0.0), 1), ((0.0, 0.0, 0.0), 0), ((4e-6, 0.0, 0.0), 0)])
def test_whitening_drops_directions_without_variance(direction, rank):
    codes = torch.randn(50, 1, generator=generator()) * torch.tensor([direction]) + 100.1
    whitening = Whitening.of(codes)
    white = whitening.whiten(codes)
    assert white.shape == (50, rank)
    torch.testing.assert_close(white.square().mean(dim=0), torch.ones(rank), rtol=1e-3, atol=0)
    torch.testing.assert_close(whitening.restore(white), codes, rtol=1e-5, atol=0)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_very_few_codes_give_finite_samples(n):
    assert torch.isfinite(draw(torch.randn(n, 3, generator=generator()), 20)).all()


def test_codes_that_are_not_finite_are_refused():
    with pytest.raises(AebenchError, match="not finite"):
        draw(torch.tensor([[1.0, float("nan")], [0.0, 1.0]]))
