"""What the contract asks of every registered model, whoever wrote it."""

import pytest
import torch
from torch import Generator

from aebench.contracts import AebenchError, Capability
from aebench.registry import create_registry

NAMES = list(create_registry().autoencoders)
SHAPES = [((1, 8, 8), 2), ((1, 32, 32), 20), ((3, 10, 6), 5)]


@pytest.fixture(params=NAMES)
def name(request):
    return request.param


@pytest.fixture(params=SHAPES, ids=str)
def model(request, name, build, train_step):
    shape, latent_dim = request.param
    return train_step(build(name, shape, latent_dim)).eval()


@pytest.fixture
def train_step():
    def train_step(model):
        """Batch statistics and weights that are not the initial ones."""
        model.train()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
        for seed in range(3):
            model.loss(_images(model, 16, seed), Generator().manual_seed(seed)).total.backward()
            optimizer.step()
        return model

    return train_step


def _images(model, n=6, seed=0):
    return torch.rand(n, *model.input_shape, generator=Generator().manual_seed(seed))


def test_there_are_models_to_check():
    assert len(NAMES) == 9


def test_shapes_dtypes_and_ranges(model):
    x = _images(model)
    z = model.embed(x)
    assert z.shape == (6, model.latent_dim)
    assert z.dtype == torch.float32
    assert model.decode(z).shape == x.shape
    reconstructed = model.reconstruct(x)
    assert reconstructed.shape == x.shape
    assert reconstructed.min() >= 0
    assert reconstructed.max() <= 1
    assert model.interpolate(x[:2], x[2:4], 7).shape == (2, 7, *model.input_shape)


def test_an_image_does_not_depend_on_its_batch(model):
    x = _images(model)
    torch.testing.assert_close(model.reconstruct(x)[2:3], model.reconstruct(x[2:3]), rtol=1e-4, atol=1e-5)


def test_evaluation_is_deterministic_and_noise_is_seeded(model):
    x = _images(model)
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))
    one, same = (model.embed(x, stochastic=True, generator=Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(one, same)


def test_the_loss_is_finite_and_adds_up(model):
    loss = model.loss(_images(model), Generator().manual_seed(0))
    for part in (loss.total, loss.reconstruction, loss.penalty):
        assert part.shape == ()
        assert torch.isfinite(part)
    torch.testing.assert_close(loss.total, loss.reconstruction + loss.penalty)
    assert loss.penalty >= 0


def test_the_gradient_reaches_every_parameter_in_some_stage(model):
    reached = set()
    for stage in model.stages(10):
        model.zero_grad()
        for module in stage.trains:
            module.train()
        stage.loss(_images(model, 16), Generator().manual_seed(0)).total.backward()
        own = {parameter for module in stage.trains for parameter in module.parameters()}
        reached |= {parameter for parameter in own if parameter.grad is not None and parameter.grad.any()}
    assert reached == set(model.parameters())


def test_inputs_and_global_randomness_are_left_alone(model):
    x = _images(model)
    before, state = x.clone(), torch.get_rng_state()
    model.loss(x, Generator().manual_seed(0))
    model.reconstruct(x, stochastic=True, generator=Generator().manual_seed(0))
    assert torch.equal(x, before)
    assert torch.equal(state, torch.get_rng_state())


def test_a_saved_model_comes_back(model, name, build):
    twin = build(name, model.input_shape, model.latent_dim)
    twin.load_state_dict(model.state_dict())
    x = _images(model)
    assert torch.equal(twin.eval().reconstruct(x), model.reconstruct(x))


def test_sampling_is_there_exactly_when_declared(model, name, registry):
    if Capability.SAMPLE in registry.autoencoder(name).record.capabilities:
        one, same, other = (model.sample(5, Generator().manual_seed(seed)) for seed in (1, 1, 2))
        assert one.shape == (5, *model.input_shape)
        assert torch.equal(one, same)
        assert not torch.equal(one, other)
        assert one.min() >= 0
        assert one.max() <= 1
    else:
        with pytest.raises(AebenchError, match="no prior"):
            model.sample(5, Generator())


def test_parameters_reject_unknown_keys(name, registry):
    with pytest.raises(ValueError, match="Extra inputs"):
        registry.autoencoder(name).record.params(no_such_parameter=1)


@pytest.mark.cuda
def test_the_model_runs_on_cuda(name, build):
    model = build(name).cuda().eval()
    x = _images(model).cuda()
    torch.testing.assert_close(
        model.reconstruct(x).cpu(), build(name).eval().reconstruct(x.cpu()), rtol=1e-3, atol=1e-4
    )
