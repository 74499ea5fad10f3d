"""The regularised autoencoder: its loss by hand, and what a density fitted to its codes gains."""

import pytest
import torch
from torch import Generator, nn

from aebench.contracts import Capability
from aebench_tasks.generated import frechet_distance


@pytest.mark.parametrize(("channels", "nats_per_squared_error"), [(1, 2), (3, 50)])
def test_loss_by_hand(build, channels, nats_per_squared_error):
    """beta * mean |z|^2 / 2 + lambda * |theta|^2 against the squared error, without the bias."""
    model = build("rae", (channels, 1, 2), 2, code_weight=2, decoder_weight=0.1)
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(2 * channels, 2))
    model.decoder = nn.Sequential(nn.Linear(2, 2 * channels), nn.Unflatten(1, (channels, 1, 2)))
    with torch.no_grad():
        model.encoder[1].weight.copy_(torch.eye(2, 2 * channels))  # the code is the first channel
        model.encoder[1].bias.fill_(0)
        model.decoder[0].weight.fill_(0)[:2].copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        model.decoder[0].bias.fill_(0.5)
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).view(2, 1, 1, 2).repeat(1, channels, 1, 1)
    loss = model.loss(x, Generator())
    expected = 2 * (0.5 * 1 + 0.5 * 2) / 2 + 0.1 * (1 + 4 + 1)
    torch.testing.assert_close(loss.penalty, torch.tensor(nats_per_squared_error * expected))
    torch.testing.assert_close(loss.reconstruction, model.likelihood.mean_nll(model.decode(model.embed(x)), x))
    torch.testing.assert_close(loss.total, loss.reconstruction + loss.penalty)


def test_it_has_no_prior_and_a_gaussian_fitted_to_its_codes_samples_better_than_a_standard_normal(
    build, train, digits, reference_classifier, registry
):
    assert Capability.SAMPLE not in registry.autoencoder("rae").record.capabilities
    model = train(build("rae", latent_dim=20), digits, epochs=40)
    real = reference_classifier.features(digits.test.x()).numpy()
    noise = torch.randn(800, 20, generator=Generator().manual_seed(0))
    with torch.no_grad():
        codes = model.embed(digits.train.x())
        fitted = codes.mean(dim=0) + noise @ torch.linalg.cholesky(codes.T.cov()).T
        images = [model.decode_images(z) for z in (fitted, noise)]
    ex_post, standard = (frechet_distance(real, reference_classifier.features(x).numpy()) for x in images)
    assert ex_post < 0.8 * standard
