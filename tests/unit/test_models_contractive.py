"""The contractive autoencoder's penalty is the squared norm of a Jacobian."""

from itertools import product

import pytest
import torch
from aebench_contractive import Contractive, ContractiveParams, squared_jacobian_norm
from torch import Generator, nn
from torch.autograd.functional import jacobian

from aebench.contracts import Bernoulli, ModelSpec
from aebench.networks import CONV, DENSE

SHAPE, LATENT_DIM = (1, 8, 9), 3


def draw(*shape, seed=0):
    return torch.rand(shape, generator=Generator().manual_seed(seed))


def build(backbone, weight=1.0, latent_dim=LATENT_DIM):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Contractive(ModelSpec(SHAPE, latent_dim, ContractiveParams(weight=weight), backbone, Bernoulli()))


def expected_norm(encode, x):
    """The expectation over all signs: the mean of the estimate over every combination of signs."""
    x = x.clone().requires_grad_()
    z = encode(x)
    signs = torch.tensor(list(product([-1.0, 1.0], repeat=z.numel()))).view(-1, *z.shape)
    return torch.stack([squared_jacobian_norm(z, x, one) for one in signs]).mean()


def test_the_closed_form_of_a_sigmoid_layer():
    """Rifai et al. 2011, section 3: the sum over j of (z_j (1 - z_j))^2 ||W_j||^2."""
    x, layer = draw(3, *SHAPE), nn.Linear(72, LATENT_DIM)
    z = layer(x.flatten(1)).sigmoid()
    closed_form = ((z * (1 - z)).square() @ layer.weight.square().sum(dim=1)).mean()
    torch.testing.assert_close(expected_norm(lambda x: layer(x.flatten(1)).sigmoid(), x), closed_form)


def test_the_closed_form_of_a_linear_layer_with_a_normalised_code():
    """In evaluation mode the code of `encode` is divided by the standard deviation, and so is its Jacobian."""
    layer = nn.Linear(72, LATENT_DIM)
    model = build(DENSE.model_copy(update={"encoder": lambda *_: nn.Sequential(nn.Flatten(), layer)})).eval()
    deviation = torch.tensor([0.5, 1.0, 2.0])
    model.normalise.running_var.copy_(deviation.square() - model.normalise.eps)
    closed_form = (layer.weight / deviation[:, None]).square().sum()
    torch.testing.assert_close(expected_norm(model.embed, draw(3, *SHAPE)), closed_form)


@pytest.mark.parametrize("backbone", [DENSE, CONV], ids=lambda backbone: backbone.name)
@pytest.mark.parametrize("training", [False, True], ids=["evaluation", "training"])
def test_the_jacobian_of_any_backbone(backbone, training):
    """Batch norm couples the images in training: the Jacobian is that of all codes by all images, over their number."""
    model, x = build(backbone).train(training), draw(3, *SHAPE)
    full = jacobian(model.embed, x).flatten(4)
    within = sum(full[image, :, image].square().sum() for image in range(3))
    torch.testing.assert_close(expected_norm(model.embed, x), full.square().sum() / 3)
    if training:
        assert full.square().sum() > 1.01 * within
    else:
        torch.testing.assert_close(full.square().sum(), within)


def test_the_loss_estimates_the_weighted_norm():
    model, x = build(DENSE, weight=0.5).eval(), draw(64, *SHAPE)
    exact = 2 * 0.5 * jacobian(lambda images: model.embed(images).sum(dim=0), x).square().sum() / 64
    estimates = torch.stack([model.loss(x, Generator().manual_seed(seed)).penalty for seed in range(100)])
    torch.testing.assert_close(estimates.mean(), exact, rtol=0.02, atol=0)
    assert estimates.std() > 0


def test_the_estimate_is_exact_for_a_code_of_one_number():
    """Signs have the square 1, so that only products of different rows of the Jacobian are random."""
    model, x = build(DENSE, latent_dim=1).eval(), draw(8, *SHAPE)
    exact = 2 * jacobian(lambda images: model.embed(images).sum(dim=0), x).square().sum() / 8
    torch.testing.assert_close(model.loss(x, Generator().manual_seed(0)).penalty, exact)


def test_the_validation_loss_is_computed_without_gradients():
    model, x = build(DENSE).eval(), draw(8, *SHAPE)
    expected = model.loss(x, Generator().manual_seed(0))
    with torch.no_grad():
        loss = model.loss(x, Generator().manual_seed(0))
    assert expected.total.requires_grad
    assert not loss.total.requires_grad
    torch.testing.assert_close(loss.total, expected.total)
    assert not x.requires_grad


def test_a_scaled_encoder_does_not_evade_the_penalty():
    model, x = build(DENSE).train(), draw(32, *SHAPE)
    before = model.loss(x, Generator().manual_seed(0)).penalty
    with torch.no_grad():
        model.encoder.blocks[-1].weight.mul_(3)
    torch.testing.assert_close(model.loss(x, Generator().manual_seed(0)).penalty, before, rtol=1e-3, atol=0)


def test_the_penalty_contracts_the_codes(digits, train):
    def norm(weight):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            spec = ModelSpec((1, 8, 8), 8, ContractiveParams(weight=weight), DENSE, Bernoulli())
            model = train(Contractive(spec), digits, epochs=5).eval()
        with torch.no_grad():
            return float(model.loss(digits.test.x(), Generator().manual_seed(0)).penalty) / weight

    assert norm(1.0) < 0.7 * norm(1e-6)
