"""Each variant's loss, bottleneck and training against an independent calculation."""

from itertools import pairwise

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator
from torch.distributions import Bernoulli, Normal, kl_divergence
from torch.nn import functional

from aebench.training.fitting import fit
from aebench.training.records import Budget

SHAPE = (1, 8, 8)


@pytest.fixture
def x():
    return torch.rand(32, *SHAPE, generator=Generator().manual_seed(0))


def test_exactly_the_models_without_trainable_parameters_are_fitted_in_closed_form(build, registry):
    for name in registry.autoencoders:
        model = build(name)
        trainable = any(parameter.requires_grad for parameter in model.parameters())
        assert any(stage.updates for stage in model.stages(3)) == trainable, name


def test_pca_finds_the_mean_and_the_directions_of_largest_variance(build, train, digits):
    model = train(build("pca"), digits)
    x = digits.train.x().flatten(1)
    expected = PCA(model.latent_dim, svd_solver="full").fit(x.double().numpy())
    torch.testing.assert_close(model.mean, torch.from_numpy(expected.mean_).float())
    torch.testing.assert_close(model.components, torch.from_numpy(expected.components_).float(), rtol=0, atol=1e-4)


def test_reconstruction_loss_is_summed_over_pixels_and_averaged_over_the_batch(build, x):
    model = build("vanilla").eval()
    loss = model.loss(x, Generator())
    expected = functional.binary_cross_entropy(model.reconstruct(x), x, reduction="sum") / len(x)
    torch.testing.assert_close(loss.total, expected)
    assert loss.penalty == 0


@pytest.mark.parametrize(("name", "beta"), [("vae", 1), ("beta_vae_strict", 2), ("beta_vae_loose", 0.5)])
def test_gaussian_bottleneck(build, x, name, beta):
    model = build(name).eval()
    h = model.encode(x)
    mu, log_sigma = h.chunk(2, dim=1)
    kl = kl_divergence(Normal(mu, log_sigma.exp()), Normal(0, 1)).sum(dim=1).mean()
    code = model.bottleneck(h)
    torch.testing.assert_close(code.penalty, beta * kl)
    torch.testing.assert_close(code.z, mu)
    drawn = torch.cat([model.bottleneck(h, True, Generator().manual_seed(k)).z - mu for k in range(400)])
    torch.testing.assert_close(drawn.std(dim=0), log_sigma.exp().square().mean(dim=0).sqrt(), rtol=0.05, atol=0)


def test_sparse_bottleneck(build, x):
    model = build("sparse").eval()
    code = model.bottleneck(model.encode(x))
    assert code.z.min() > 0
    assert code.z.max() < 1
    expected = kl_divergence(Bernoulli(torch.tensor(0.25)), Bernoulli(code.z.mean(dim=0))).sum()
    torch.testing.assert_close(code.penalty, expected)


def test_sparse_penalty_stays_finite_when_a_unit_never_or_always_fires(build):
    penalty = build("sparse").bottleneck(torch.tensor([[-200.0, 200.0]])).penalty
    assert torch.isfinite(penalty)


def test_denoising_corrupts_training_inputs_only(build, x):
    model = build("denoising").eval()
    noisy = model.corrupt(x, Generator().manual_seed(0))
    assert noisy.min() == 0
    assert noisy.max() == 1
    inside = (noisy > 0) & (noisy < 1)
    assert (noisy - x)[inside].abs().mean() > 0.1
    loss = model.loss(x, Generator().manual_seed(0)).reconstruction
    torch.testing.assert_close(loss, model.likelihood.nll(model.decode(model.embed(noisy)), x).mean())
    assert torch.equal(model.reconstruct(x), model.reconstruct(x))


def test_vq_takes_the_nearest_value_of_each_elements_own_codebook(build, x):
    model = build("vq_vae")
    with torch.no_grad():
        model.codebook.normal_(generator=Generator().manual_seed(3))
    h = torch.randn(200, 4, generator=Generator().manual_seed(4)) * 2
    brute_force = (h[:, :, None] - model.codebook[None]).abs().argmin(dim=2)
    expected = model.codebook.gather(1, brute_force.T).T
    code = model.bottleneck(h)
    assert torch.equal(code.z, expected)
    torch.testing.assert_close(code.penalty, 2 * (h - expected).square().sum(dim=1).mean())


def test_vq_gradients(build):
    model = build("vq_vae")
    h = torch.randn(16, 4, generator=Generator().manual_seed(4), requires_grad=True)
    weight = torch.randn(16, 4, generator=Generator().manual_seed(5))
    (model.bottleneck(h).z * weight).sum().backward()
    torch.testing.assert_close(h.grad, weight)  # straight through
    assert model.codebook.grad is None or not model.codebook.grad.any()
    h.grad = None
    model.bottleneck(h).penalty.backward()
    chosen = model.codebook.grad != 0
    assert 0 < chosen.sum() <= 16 * 4  # only chosen values get a gradient from the codebook loss
    torch.testing.assert_close(h.grad, 2 * (h - model.bottleneck(h).z).detach() / 16)  # the commitment loss


def test_vq_codebook_starts_uniform(build):
    codebook = build("vq_vae").codebook.detach()
    assert codebook.shape == (4, 512)
    assert codebook.abs().max() <= 1 / 512
    assert codebook.std() == pytest.approx(2 / 512 / 12**0.5, rel=0.1)


def test_vq_samples_come_from_the_codebooks_and_its_interpolation_is_quantised(build, x):
    model = build("vq_vae").eval()
    seen = []
    decoder_input = model.decoder.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model.sample(50, Generator().manual_seed(0))
    model.interpolate(x[:2], x[2:4], 9)
    decoder_input.remove()
    for z in seen:
        assert (z[:, :, None] == model.codebook[None]).any(dim=2).all()


@pytest.mark.parametrize("name", ["shallow", "vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_interpolation_begins_and_ends_at_the_reconstructions(build, x, name):
    model = build(name).eval()
    path = model.interpolate(x[:3], x[3:6], 5)
    assert path.shape == (3, 5, *SHAPE)
    torch.testing.assert_close(path[:, 0], model.reconstruct(x[:3]))
    torch.testing.assert_close(path[:, -1], model.reconstruct(x[3:6]))


@pytest.mark.parametrize("name", ["vae", "vq_vae", "conv_vq_vae"])
def test_samples_and_interpolations_are_decoded_in_batches(build, x, name):
    model, sizes = build(name).eval(), []
    model.decoder.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    with torch.no_grad():
        model.sample(600, Generator().manual_seed(0))
        model.interpolate(x[:20], x[10:30], 30)
    assert sizes == [256, 256, 88, 256, 256, 88]


def _snapshot(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("objective", ["codes", "pixels"])
def test_a_stage_of_the_stacked_autoencoder_leaves_frozen_layers_untouched(build, digits, objective):
    """Including batch-norm statistics: only the stage's own pair changes."""
    model = build("stacked", objective=objective)
    names = [stage.name for stage in model.stages(6)]
    assert names == ["pair 1 of 3", "pair 2 of 3", "pair 3 of 3"]
    snapshots = [_snapshot(model)]

    def after_stage(losses):
        if losses.epoch % 2 == 0:
            snapshots.append(_snapshot(model))

    fit(model, digits, Budget(6, 64), batches=Generator().manual_seed(0), noise=Generator(), on_epoch=after_stage)
    assert len(snapshots) == 4
    for pair, (before, after) in enumerate(pairwise(snapshots)):
        own = (f"encoder.blocks.{pair}.", f"decoder.blocks.{2 - pair}.")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed == {name for name in before if name.startswith(own)}
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_stacked_objectives(build, x):
    """An inner pair reconstructs the encoded data, or the images through the frozen outer decoder."""
    codes, pixels = build("stacked", objective="codes").eval(), build("stacked", objective="pixels").eval()
    encoded = codes.encoder.blocks[0](x.flatten(1))
    decoded = codes.decoder.blocks[1](codes.encoder.blocks[1](encoded))
    inner = codes.stages(3)[1].updates[0].loss(x, Generator()).total
    torch.testing.assert_close(inner, (decoded - encoded).square().sum(dim=1).mean())
    through = pixels.decoder.blocks[2](decoded).view_as(x)
    torch.testing.assert_close(
        pixels.stages(3)[1].updates[0].loss(x, Generator()).total, pixels.likelihood.nll(through, x).mean()
    )
    torch.testing.assert_close(
        codes.stages(3)[0].updates[0].loss(x, Generator()).total,
        pixels.stages(3)[0].updates[0].loss(x, Generator()).total,
    )


@pytest.mark.parametrize(("epochs", "expected"), [(60, [20, 20, 20]), (5, [2, 2, 1]), (1, [1, 0, 0])])
def test_stacked_divides_the_budget(build, epochs, expected):
    assert [stage.epochs for stage in build("stacked").stages(epochs)] == expected
