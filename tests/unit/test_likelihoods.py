"""Likelihoods: negative log-likelihoods against PyTorch's distributions, means in [0, 1], and their settings."""

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import distributions

from aebench.contracts import Autoencoder, Bernoulli, Gaussian, ModelSpec, Params, default_likelihood
from aebench.contracts.likelihoods import ChosenLikelihood
from aebench.networks import DENSE

DISTRIBUTIONS = {
    Bernoulli(): lambda decoded: distributions.ContinuousBernoulli(logits=decoded),
    Gaussian(): lambda decoded: distributions.Normal(decoded, 0.1),
    Gaussian(sigma=0.4): lambda decoded: distributions.Normal(decoded, 0.4),
}
LIKELIHOODS = list(DISTRIBUTIONS)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
@pytest.mark.parametrize("shape", [(7, 1, 32, 32), (3, 3, 5, 7), (4, 11)])
def test_nll_is_that_of_the_distribution_summed_over_each_image(likelihood, shape):
    torch.manual_seed(0)
    decoded, x = torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    log_prob = DISTRIBUTIONS[likelihood](decoded).log_prob(x)
    if isinstance(likelihood, Bernoulli):  # without the constant that makes it a density on [0, 1]
        log_prob -= distributions.ContinuousBernoulli(logits=decoded)._cont_bern_log_norm()
    expected = -log_prob.flatten(1).sum(dim=1)
    found = likelihood.nll(decoded.float(), x.float())
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(likelihood.mean_nll(decoded.float(), x.float()), found.mean())


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_half_precision_gives_a_float32_loss(likelihood):
    decoded = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = likelihood.mean_nll(decoded, torch.rand(3, 8))
    loss.backward()
    assert (loss.dtype, decoded.grad.dtype) == (torch.float32, torch.bfloat16)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_the_mean_lies_in_the_unit_interval_and_can_be_inverted(likelihood):
    mean = likelihood.mean(torch.linspace(-50, 50, 100))
    assert (mean >= 0).all()
    assert (mean <= 1).all()
    assert float(mean.max() - mean.min()) == pytest.approx(1)
    images = torch.linspace(0, 1, 11)
    decoded = likelihood.from_mean(images)
    assert torch.isfinite(decoded).all()
    torch.testing.assert_close(likelihood.mean(decoded), images, rtol=0, atol=2e-6)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_the_cost_of_a_squared_error(likelihood):
    """At least `nats_per_squared_error`, and exactly that for a small error of a pixel of 0.5."""
    x, decoded = torch.rand(2, 200, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    x[0], decoded[0] = 0.5, 0.49
    cost = likelihood.nll(likelihood.from_mean(decoded), x) - likelihood.nll(likelihood.from_mean(x), x)
    expected = likelihood.nats_per_squared_error * (x - decoded).square().flatten()
    assert float(cost[0]) == pytest.approx(float(expected[0]), rel=0.02)
    assert (cost >= 0.999 * expected - 1e-5).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_no_output_is_more_likely_than_the_image_itself(likelihood):
    x = torch.rand(4, 3, 5, 5)
    best = likelihood.nll(likelihood.from_mean(x), x)
    assert (likelihood.nll(likelihood.from_mean((x + 0.05).clamp(0, 1)), x) > best).all()


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=str)
def test_the_training_loss_is_the_mean_over_the_batch(likelihood):
    spec = ModelSpec((1, 4, 4), 16, Params(), DENSE, likelihood)
    model = Autoencoder(spec, torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 4, 4)))
    x = torch.rand(5, 1, 4, 4)
    torch.testing.assert_close(model.loss(x, torch.Generator()).reconstruction, likelihood.nll(x, x).mean())
    torch.testing.assert_close(model.reconstruct(x), likelihood.mean(x))


def test_colour_is_gaussian_by_default():
    assert default_likelihood((1, 8, 8)) == Bernoulli()
    assert default_likelihood((3, 8, 8)) == Gaussian()


def test_settings():
    settings = TypeAdapter(ChosenLikelihood)
    assert settings.validate_python("gaussian") == Gaussian()
    assert settings.validate_python({"name": "gaussian", "sigma": 0.2}).sigma == 0.2
    for wrong in ("poisson", {"name": "gaussian", "sigma": 0.0}, {"name": "bernoulli", "sigma": 0.1}):
        with pytest.raises(ValidationError):
            settings.validate_python(wrong)
