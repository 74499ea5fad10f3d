"""The adversarial autoencoder: its two losses have the known optima, and each trains its own networks only."""

from math import log

import numpy as np
import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import Generator, nn
from torch.nn import functional

from aebench_tasks.generated import frechet_distance


def _jensen_shannon(offset):
    """The divergence of N(0, 1) and N(offset, 1) in nats."""

    def integrand(z):
        p, q = norm.pdf(z), norm.pdf(z - offset)
        return 0.5 * (p * np.log(2 * p / (p + q)) + q * np.log(2 * q / (p + q)))

    return quad(integrand, -10, 10 + offset)[0]


@pytest.mark.parametrize("offset", [0.0, 2.0])
def test_the_best_discriminator_has_the_loss_of_the_theory(build, offset):
    """It is log 4 - 2 JSD(codes, prior) (Goodfellow et al. 2014, theorem 1): log 4 if codes follow the prior."""
    model = build("aae", (1, 1, 1), 1, hidden=32)
    model.encoder = nn.Flatten()  # images are codes
    noise = Generator().manual_seed(0)
    update = model.stages(1)[0].updates[1]
    optimizer = torch.optim.Adam(update.parameters, 3e-3)
    for _ in range(300):
        optimizer.zero_grad()
        update.loss(offset + torch.randn(256, 1, 1, 1, generator=noise), noise).total.backward()
        optimizer.step()
    with torch.no_grad():
        loss = update.loss(offset + torch.randn(100_000, 1, 1, 1, generator=noise), noise).total
    assert float(loss) == pytest.approx(log(4) - 2 * _jensen_shannon(offset), abs=0.02)


@pytest.mark.parametrize(("channels", "nats_per_squared_error"), [(1, 2), (3, 50)])
def test_losses_against_cross_entropies(build, channels, nats_per_squared_error):
    shape = (channels, 8, 8)
    x = torch.rand(50, *shape, generator=Generator().manual_seed(0))
    model = build("aae", shape, generator_weight=3).eval()
    z, prior = model.embed(x), torch.randn(50, 4, generator=Generator().manual_seed(3))
    real, fake = (model.discriminator(codes) for codes in (prior, z))
    ones, zeros = torch.ones(50, 1), torch.zeros(50, 1)
    loss = model.loss(x, Generator())
    torch.testing.assert_close(loss.reconstruction, build("vanilla", shape).eval().loss(x, Generator()).reconstruction)
    generator_loss = functional.binary_cross_entropy_with_logits(fake, ones)
    torch.testing.assert_close(loss.penalty, nats_per_squared_error * 3 * generator_loss)
    expected = functional.binary_cross_entropy_with_logits(torch.cat([real, fake]), torch.cat([ones, zeros]))
    torch.testing.assert_close(model.discriminator_loss(x, Generator().manual_seed(3)).total, 2 * expected)


def test_each_update_trains_its_own_networks(build, digits):
    model, x = build("aae"), digits.train.x()[:50]
    autoencoder, discriminator = model.stages(5)[0].updates
    of_discriminator = {id(parameter) for parameter in model.discriminator.parameters()}
    assert {id(parameter) for parameter in discriminator.parameters} == of_discriminator
    assert {id(p) for p in autoencoder.parameters} == {id(p) for p in model.parameters()} - of_discriminator
    loss = discriminator.loss(x, Generator().manual_seed(0)).total
    assert set(torch.autograd.grad(loss, autoencoder.parameters, allow_unused=True)) == {None}


def test_trained_codes_are_nearer_to_the_prior_than_those_of_a_plain_autoencoder(build, train, digits):
    prior = np.random.default_rng(0).standard_normal((1000, 4))
    distance = {}
    for weight in (0, 0.5):
        model = train(build("aae", generator_weight=weight), digits, epochs=10)
        with torch.no_grad():
            distance[weight] = frechet_distance(prior, model.embed(digits.test.x()).numpy())
    assert distance[0.5] < 0.5 * distance[0]
