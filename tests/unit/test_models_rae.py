"""The regularised autoencoder: its loss by hand, and what a density fitted to its codes gains."""

import torch
from torch import Generator, nn

from aebench.contracts import Capability
from aebench_tasks.generated import frechet_distance


def test_loss_by_hand(build):
    """beta * mean |z|^2 / 2 + lambda * |theta|^2, without the bias."""
    model = build("rae", (1, 1, 2), 2, code_weight=2, decoder_weight=0.1)
    model.encoder = nn.Flatten()
    linear = nn.Linear(2, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[1.0, 2.0], [0.0, -1.0]]))
        linear.bias.fill_(0.5)
    model.decoder = nn.Sequential(linear, nn.Unflatten(1, (1, 1, 2)))
    x = torch.tensor([[0.0, 1.0], [1.0, 1.0]]).view(2, 1, 1, 2)
    loss = model.loss(x, Generator())
    torch.testing.assert_close(loss.penalty, torch.tensor(2 * (0.5 * 1 + 0.5 * 2) / 2 + 0.1 * (1 + 4 + 1)))
    torch.testing.assert_close(loss.reconstruction, model.likelihood.mean_nll(linear(x.flatten(1)).view_as(x), x))
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
