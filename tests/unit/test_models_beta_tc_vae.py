"""The beta-TC-VAE: the total correlation against closed forms, and the decomposition of the KL divergence."""

from math import log

import pytest
import torch
from aebench_beta_tc_vae import total_correlation
from torch import Generator, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal


def _posteriors(n, dimensions, seed=0):
    noise = Generator().manual_seed(seed)
    mu = torch.randn(n, dimensions, generator=noise)
    log_sigma = 0.3 * torch.randn(n, dimensions, generator=noise) - 0.5
    return mu + log_sigma.exp() * torch.randn(n, dimensions, generator=noise), mu, log_sigma


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9])
def test_total_correlation_of_a_gaussian_in_closed_form(correlation):
    """It is -0.5 log det of the correlation matrix, if the batch is the whole data set."""
    n, sigma, noise = 2000, 0.3, Generator().manual_seed(0)
    covariance = torch.tensor([[1, correlation], [correlation, 1]])
    of_means = torch.linalg.cholesky(covariance - sigma**2 * torch.eye(2))
    mu = torch.randn(n, 2, generator=noise) @ of_means.T
    z = mu + sigma * torch.randn(n, 2, generator=noise)
    found = total_correlation(z, mu, torch.full_like(mu, log(sigma)), torch.tensor(float(n)))
    assert float(found) == pytest.approx(-0.5 * log(1 - correlation**2), abs=0.07)


def test_the_estimate_is_stratified_sampling_averaged_over_the_order_of_the_batch():
    """In the paper's weights one of the other images, the last one, has another weight than the rest."""
    batch, images = 5, 40
    z, mu, log_sigma = _posteriors(batch, 3)
    others = batch - 1
    terms = []
    for i in range(batch):
        densities = Normal(mu, log_sigma.exp()).log_prob(z[i]).exp()  # (batch, 3)
        joint, marginals = [], []
        for last in (j for j in range(batch) if j != i):
            weights = torch.full((batch, 1), 1 / others)
            weights[i], weights[last] = 1 / images, (images - others) / (images * others)
            joint.append((weights[:, 0] * densities.prod(dim=1)).sum())
            marginals.append((weights * densities).sum(dim=0))
        terms.append(torch.stack(joint).mean().log() - torch.stack(marginals).mean(dim=0).log().sum())
    torch.testing.assert_close(total_correlation(z, mu, log_sigma, torch.tensor(40.0)), torch.stack(terms).mean())


def test_a_single_image_has_no_total_correlation():
    assert total_correlation(*_posteriors(1, 4), torch.tensor(100.0)) == 0


def test_with_beta_1_the_loss_is_that_of_the_vae(build, digits):
    x = digits.train.x()[:64]
    model = build("beta_tc_vae", beta=1)
    model.images.fill_(len(digits.train))
    expected = build("vae").loss(x, Generator().manual_seed(0))
    assert vars(model.loss(x, Generator().manual_seed(0))) == vars(expected)


def test_the_penalty_is_the_decomposition_of_the_kl_divergence_with_beta(build):
    """Mutual information + beta * total correlation + dimension-wise KL divergence, each by sampling (eq. 2)."""
    beta, draws = 6, 200
    _, mu, log_sigma = _posteriors(64, 2)
    mu[:, 1] += mu[:, 0]
    model = build("beta_tc_vae", (1, 1, 4), 2, beta=beta)
    model.encoder = nn.Flatten()  # images are parameters of posteriors
    model.images.fill_(len(mu))
    x = torch.cat([mu, log_sigma], dim=1).view(-1, 1, 1, 4)
    with torch.no_grad():
        penalties = [model.loss(x, Generator().manual_seed(seed)).penalty for seed in range(draws)]
    posteriors = Normal(mu, log_sigma.exp())
    uniform = Categorical(torch.ones(len(x)))
    joint = MixtureSameFamily(uniform, Independent(posteriors, 1))
    marginals = MixtureSameFamily(Categorical(torch.ones(mu.shape[1], len(x))), Normal(mu.T, log_sigma.exp().T))
    z = mu + log_sigma.exp() * torch.randn(draws, *mu.shape, generator=Generator().manual_seed(draws))
    log_joint, log_marginals = joint.log_prob(z), marginals.log_prob(z)
    mutual_information = (posteriors.log_prob(z).sum(dim=2) - log_joint).mean()
    correlation = (log_joint - log_marginals.sum(dim=2)).mean()
    dimension_wise = (log_marginals - Normal(0, 1).log_prob(z)).sum(dim=2).mean()
    expected = mutual_information + beta * correlation + dimension_wise
    assert correlation > 0.1
    assert float(torch.stack(penalties).mean()) == pytest.approx(float(expected), rel=0.02)


def test_the_number_of_training_images_is_counted(build, train, digits):
    assert train(build("beta_tc_vae"), digits, epochs=1).images == len(digits.train)
