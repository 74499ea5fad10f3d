"""WAE-MMD: the estimate of the maximum mean discrepancy is unbiased, and minimising it moves the codes to the prior."""

import numpy as np
import pytest
import torch
from aebench_wae import SCALES, inverse_multiquadratic, squared_mmd
from scipy.integrate import quad
from torch import Generator

from aebench_tasks.generated import frechet_distance


def _mean_kernel(dimensions, offset, variance):
    """E k(x, y) for x - y ~ N(offset, variance I), by C / (C + r^2) = C * integral of exp(-t (C + r^2)) over t > 0."""

    def mean_of_gaussian(t):
        return (1 + 2 * t * variance) ** (-dimensions / 2) * np.exp(-t * offset**2 / (1 + 2 * t * variance))

    return sum(
        quad(lambda u, c=c: np.exp(-u) * mean_of_gaussian(u / c), 0, np.inf)[0]
        for c in (2 * dimensions * scale for scale in SCALES)
    )


@pytest.mark.parametrize(("offset", "sigma"), [(0.0, 1.0), (1.0, 1.0), (0.5, 0.6)])
def test_the_estimate_is_unbiased(offset, sigma):
    """Its mean is the discrepancy of N(offset, sigma^2 I) and N(0, I), which is 0 if they are the same."""
    dimensions, n = 3, 16
    expected = _mean_kernel(dimensions, 0, 2 * sigma**2) + _mean_kernel(dimensions, 0, 2)
    expected -= 2 * _mean_kernel(dimensions, offset, 1 + sigma**2)
    noise = Generator().manual_seed(0)
    estimates = []
    for _ in range(1000):
        z = sigma * torch.randn(n, dimensions, generator=noise)
        z[:, 0] += offset
        estimates.append(float(squared_mmd(z, torch.randn(n, dimensions, generator=noise))))
    assert np.mean(estimates) == pytest.approx(expected, abs=3 * np.std(estimates) / len(estimates) ** 0.5)
    assert (expected == pytest.approx(0)) == (min(estimates) < 0 and offset == 0)


def test_the_kernel_by_hand():
    a, b = torch.tensor([[0.0, 0.0], [3.0, 4.0]]), torch.tensor([[0.0, 0.0]])
    far = sum(4 * scale / (4 * scale + 25) for scale in SCALES)
    torch.testing.assert_close(inverse_multiquadratic(a, b), torch.tensor([[len(SCALES)], [far]]))


def test_a_single_code_has_no_discrepancy():
    assert squared_mmd(torch.ones(1, 4), torch.zeros(1, 4)) == 0


@pytest.mark.parametrize(("channels", "nats_per_squared_error"), [(1, 2), (3, 50)])
def test_the_loss_is_the_reconstruction_and_the_weighted_discrepancy(build, channels, nats_per_squared_error):
    shape = (channels, 8, 8)
    model, x = (
        build("wae_mmd", shape, mmd_weight=7).eval(),
        torch.rand(50, *shape, generator=Generator().manual_seed(0)),
    )
    loss = model.loss(x, Generator().manual_seed(3))
    prior = torch.randn(50, 4, generator=Generator().manual_seed(3))
    torch.testing.assert_close(loss.reconstruction, build("vanilla", shape).eval().loss(x, Generator()).reconstruction)
    torch.testing.assert_close(loss.penalty, nats_per_squared_error * 7 * squared_mmd(model.embed(x), prior))


def test_codes_are_nearer_to_the_prior_than_without_the_penalty(build, train, digits):
    prior = np.random.default_rng(0).standard_normal((1000, 4))
    distance = {}
    for weight in (0, 10):
        model = train(build("wae_mmd", mmd_weight=weight), digits, epochs=8)
        with torch.no_grad():
            distance[weight] = frechet_distance(prior, model.embed(digits.test.x()).numpy())
    assert distance[10] < 0.5 * distance[0]
