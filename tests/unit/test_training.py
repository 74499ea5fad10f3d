"""The training loop: it learns, it repeats itself, it leaves alone what is not its own, and it says when it fails."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator

from aebench.contracts import Autoencoder, SelfFitting, Split
from aebench.errors import TrainingDiverged
from aebench.training.trainer import fit

SETTINGS = {"batch_size": 64, "learning_rate": 1e-3}


def _fit(model, data, epochs=2, **more):
    generators = {"batches": Generator().manual_seed(1), "noise": Generator().manual_seed(2)}
    return fit(model, data, epochs=epochs, **SETTINGS, **generators, **more)


@pytest.mark.parametrize(
    "name", ["shallow", "vanilla", "stacked", "sparse", "denoising", "vae", "beta_vae_strict", "vq_vae"]
)
def test_the_loss_falls(build, digits, name):
    epochs = _fit(build(name), digits, epochs=9).epochs
    assert [losses.epoch for losses in epochs] == list(range(1, 10))
    by_stage = {stage: [losses for losses in epochs if losses.stage == stage] for stage in {e.stage for e in epochs}}
    for losses in by_stage.values():
        assert losses[-1].total < losses[0].total
        assert losses[-1].validation < losses[0].validation
    for losses in epochs:
        assert losses.total == pytest.approx(losses.reconstruction + losses.penalty, rel=1e-5)


@pytest.mark.parametrize("name", ["vanilla", "denoising", "vae", "vq_vae"])
def test_the_same_seeds_give_the_same_weights_and_global_state_is_left_alone(build, digits, name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = build(name), build(name)
    _fit(one, digits)
    _fit(two, digits)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_bf16_learns_what_fp32_does_and_keeps_float32_weights(build, digits, name):
    full, half = build(name), build(name)
    expected = _fit(full, digits, epochs=12).epochs[-1]
    found = _fit(half, digits, epochs=12, precision="bf16").epochs[-1]
    assert found.validation == pytest.approx(expected.validation, rel=0.03)
    assert found.validation != expected.validation
    assert {value.dtype for value in half.state_dict().values() if value.is_floating_point()} == {torch.float32}


def test_the_model_is_left_in_evaluation_mode(build, digits):
    model = build("vanilla")
    _fit(model, digits, epochs=1)
    assert not any(module.training for module in model.modules())


def test_images_fewer_than_a_batch_are_one_batch(build, digits):
    few = replace(digits, train=Split(digits.train.images[:10]))
    assert len(_fit(build("vanilla"), few, epochs=1).epochs) == 1


class Exploding(Autoencoder):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=loss.total * float("nan"))


def test_a_diverging_training_is_an_error(digits):
    model = Exploding(
        (1, 8, 8),
        64,
        torch.nn.Flatten(),
        torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Unflatten(1, (1, 8, 8))),
    )
    with pytest.raises(TrainingDiverged, match="became nan in epoch 1"):
        _fit(model, digits)


class Principal(Autoencoder):
    """PCA: the contract's hardest guest, for it has no gradients, no logits and no stages."""

    def __init__(self, input_shape, latent_dim):
        super().__init__(input_shape, latent_dim)
        pixels = int(np.prod(input_shape))
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", torch.zeros(latent_dim, pixels))

    def fit(self, images, generator):
        pca = PCA(self.latent_dim, random_state=generator.initial_seed() % 2**32).fit(images.flatten(1).numpy() / 255)
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.components.copy_(torch.from_numpy(pca.components_))

    def encode(self, x):
        return (x.flatten(1) - self.mean) @ self.components.T

    def decode(self, z):
        return torch.logit((z @ self.components + self.mean).clamp(1e-4, 1 - 1e-4)).unflatten(1, self.input_shape)


def test_a_model_without_gradients_fits_itself(digits):
    model = Principal((1, 8, 8), 20)
    assert isinstance(model, SelfFitting)
    result = _fit(model, digits)
    assert result.epochs == ()
    x = digits.test.x()
    assert (model.reconstruct(x) - x).square().mean() < 0.3 * (x - x.mean(dim=0)).square().mean()


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_on_cuda_agrees_with_one_on_the_cpu(build, digits, name):
    on_cpu = _fit(build(name), digits).epochs[-1].total
    model = build(name).cuda()
    generators = {"batches": Generator().manual_seed(1), "noise": Generator("cuda").manual_seed(2)}
    on_cuda = fit(model, digits.to("cuda"), epochs=2, **SETTINGS, **generators).epochs[-1].total
    assert on_cuda == pytest.approx(on_cpu, rel=0.03)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_step_can_be_captured_in_a_cuda_graph(build, digits, name):
    """No host synchronisation and no Python that depends on values."""
    model = build(name).cuda().train()
    noise = Generator("cuda").manual_seed(0)
    x = digits.train.x(slice(64)).cuda()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            model.loss(x, noise).total.backward()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    graph.register_generator_state(noise)
    with torch.cuda.graph(graph):
        total = model.loss(x, noise).total
        total.backward()
    graph.replay()
    assert torch.isfinite(total)
