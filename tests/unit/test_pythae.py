"""The models of pythae compute the benchmark's likelihood and their own penalty, against independent calculations."""

import inspect
from math import log
from pathlib import Path

import pytest
import torch
from torch import Generator, nn
from torch.distributions import Categorical, Independent, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional

from aebench.contracts import Bernoulli, Gaussian, ModelSpec
from aebench.networks import CONV, DENSE
from aebench.training.fitting import fit
from aebench.training.records import Budget

pythae_models = pytest.importorskip("pythae.models", reason="pythae is not installed; `tox -e optional` installs it")

from aebench_pythae import aebench_autoencoders
from aebench_pythae.table import MODELS, UNAVAILABLE

RECORDS = {record.name: record for record in aebench_autoencoders()}
GREY, COLOUR = (1, 8, 8), (3, 8, 6)
BERNOULLI = Bernoulli()
LIKELIHOODS = [
    pytest.param(GREY, BERNOULLI, id="bernoulli"),
    pytest.param(COLOUR, Gaussian(), id="gaussian"),
    pytest.param(COLOUR, Gaussian(sigma=0.37), id="wide"),
]
DIM, BATCH = 4, 16


def build_model(name, shape=GREY, likelihood=BERNOULLI, backbone=DENSE, **params):
    """In evaluation mode, with weights large enough for posteriors to differ from the prior."""
    record = RECORDS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = record.build(ModelSpec(shape, DIM, record.params(**params), backbone, likelihood))
        with torch.no_grad():
            for parameter in model.encoder.parameters():
                parameter.mul_(1.5)
    return model.eval()


def images(shape=GREY):
    return torch.rand(BATCH, *shape, generator=Generator().manual_seed(1))


class Draws:
    """The same noise as a loss that is called with `Generator().manual_seed(7)`."""

    def __init__(self):
        self.generator = Generator().manual_seed(7)

    def normal(self, *shape):
        return torch.randn(shape, generator=self.generator)

    def permutation(self, n):
        return torch.rand(n, generator=self.generator).argsort()


def loss_of(model, x, number=0):
    """The loss of an update, with the noise of `Draws`."""
    (stage,) = model.stages(1)
    return stage.updates[number].loss(x, Generator().manual_seed(7))


def posterior_of(model, x):
    mean, log_variance = model.encode(x).chunk(2, dim=1)
    return Normal(mean, log_variance.exp().sqrt())


def kl_of(posterior):
    return kl_divergence(posterior, Normal(0, 1)).sum(dim=1)


def log_prior(z):
    return Normal(0, 1).log_prob(z).sum(dim=-1)


def squared_discrepancy(z, prior):
    """The MMD with inverse multiquadratic kernels of seven scales (Tolstikhin et al. 2018, algorithm 2)."""

    def kernel(a, b):
        squares = (a[:, None] - b[None]).square().sum(dim=-1)
        return sum(2 * DIM * s / (2 * DIM * s + squares) for s in (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0))

    def without_diagonal(k):
        return k[~torch.eye(len(k), dtype=torch.bool)].mean()

    within = without_diagonal(kernel(z, z)) + without_diagonal(kernel(prior, prior))
    return within - 2 * kernel(z, prior).mean()


def expect_loss(loss, reconstruction, penalty):
    torch.testing.assert_close(loss.reconstruction, reconstruction, rtol=1e-4, atol=1e-3)
    # A difference of two large numbers in float32.
    torch.testing.assert_close(loss.penalty, penalty, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(loss.total, reconstruction + penalty, rtol=1e-4, atol=1e-3)


# Penalties of models that draw one code z for each image, in nats per image.


def kl(model, x, z, draws):
    return kl_of(posterior_of(model, x)).mean()


def kl_times_four(model, x, z, draws):
    return 4 * kl(model, x, z, draws)


def distance_from_target(model, x, z, draws):
    return 10 * (kl_of(posterior_of(model, x)) - 50).abs().mean()


def kl_and_nine_discrepancies(model, x, z, draws):
    return kl(model, x, z, draws) + 9 * squared_discrepancy(z, draws.normal(*z.shape))


def ten_discrepancies(model, x, z, draws):
    return 10 * squared_discrepancy(z, draws.normal(*z.shape))


def log_ratio(model, x, z, draws):
    return (posterior_of(model, x).log_prob(z).sum(dim=1) - log_prior(z)).mean()


def log_ratio_to_a_mixture(model, x, z, draws):
    learned = model.pythae.pseudo_inputs(torch.eye(50)).reshape(50, *model.input_shape)
    mixture = MixtureSameFamily(Categorical(torch.ones(50)), Independent(posterior_of(model, learned), 1))
    return (posterior_of(model, x).log_prob(z).sum(dim=1) - mixture.log_prob(z)).mean()


def log_ratio_after_a_flow(model, x, z, draws):
    def flow(z):
        return model.row.transform(model.pythae, z[None])[0]

    volume = torch.stack([torch.autograd.functional.jacobian(flow, each).det().abs().log() for each in z])
    after = torch.stack([flow(each) for each in z])
    return (posterior_of(model, x).log_prob(z).sum(dim=1) - volume - log_prior(after)).mean()


def fooling(model, x, z, draws):
    scores = model.pythae.discriminator(z).embedding
    return 0.5 * -scores.log().mean()


PENALTIES = {
    "pythae_vae": (kl, {}),
    "pythae_beta_vae": (kl_times_four, {}),
    "pythae_disentangled_beta_vae": (distance_from_target, {}),
    "pythae_info_vae": (kl_and_nine_discrepancies, {}),
    "pythae_beta_tc_vae": (log_ratio, {"beta": 1.0}),  # all three weights 1: the KL divergence of one sample
    "pythae_vamp": (log_ratio_to_a_mixture, {}),
    "pythae_vae_lin_nf": (log_ratio_after_a_flow, {}),
    "pythae_vae_iaf": (log_ratio_after_a_flow, {}),
    "pythae_adversarial_ae": (fooling, {}),
}


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
@pytest.mark.parametrize("name", PENALTIES)
def test_the_loss_is_the_likelihood_of_one_code_and_the_models_penalty(name, shape, likelihood):
    penalty, params = PENALTIES[name]
    model, x, draws = build_model(name, shape, likelihood, **params), images(shape), Draws()
    posterior = posterior_of(model, x)
    z = posterior.mean + posterior.stddev * draws.normal(BATCH, DIM)
    decoded = model.decode(model.row.transform(model.pythae, z))
    # pythae leaves out the entropy of a standard normal distribution, which cancels, and adds 1e-4 to determinants.
    expect_loss(loss_of(model, x), likelihood.nll(decoded, x).mean(), penalty(model, x, z, draws))


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
@pytest.mark.parametrize("name", ["pythae_ae", "pythae_wae_mmd", "pythae_rae_l2", "pythae_rae_gp", "pythae_vq_vae"])
def test_the_loss_of_a_deterministic_code(name, shape, likelihood):
    params = {"reg_weight": 2.0} if "rae" in name else {}
    model, x = build_model(name, shape, likelihood, **params), images(shape)
    h = model.encode(x)
    z = model.embed(x)
    half_norm = 0.5 * 0.0128 * z.square().sum(dim=1).mean()
    penalty = torch.zeros(())
    if name == "pythae_wae_mmd":
        penalty = ten_discrepancies(model, x, z, Draws())
    elif name == "pythae_rae_l2":
        penalty = half_norm + sum(weight.square().sum() for weight in model.decoder.parameters())
    elif name == "pythae_rae_gp":
        leaf = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.reconstruct(leaf).sum(), leaf)
        penalty = half_norm + 2 * slope.flatten(1).square().sum(dim=1).mean()
    elif name == "pythae_vq_vae":
        penalty = 1.25 * (h - z).square().mean()
    penalty = likelihood.nats_per_squared_error * penalty
    expect_loss(loss_of(model, x), likelihood.nll(model.decode(z), x).mean(), penalty)


def weighted(log_weights):
    """Minus the log weights, each weighted by its share of the sum along the first sample axis."""
    return -(log_weights.softmax(dim=1) * log_weights).sum(dim=1)


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
@pytest.mark.parametrize(
    ("name", "samples", "bounds"),
    [
        ("pythae_iwae", (10,), [weighted]),
        ("pythae_ciwae", (10,), [lambda w: 0.5 * (weighted(w) - w.mean(dim=1))]),
        ("pythae_miwae", (5, 10), [lambda w: weighted(w).mean(dim=1)]),
        ("pythae_piwae", (5, 10), [lambda w: weighted(w).mean(dim=1), lambda w: weighted(w.flatten(1))]),
    ],
)
def test_the_loss_of_several_codes(name, samples, bounds, shape, likelihood):
    model, x = build_model(name, shape, likelihood), images(shape)
    posterior = posterior_of(model, x)
    extra = tuple(1 for _ in samples)
    mean, deviation = (part.reshape(BATCH, *extra, DIM) for part in (posterior.mean, posterior.stddev))
    z = mean + deviation * Draws().normal(BATCH, *samples, DIM)
    repeated = x.reshape(BATCH, *extra, *shape).expand(BATCH, *samples, *shape).reshape(-1, *shape)
    nll = likelihood.nll(model.decode(z.reshape(-1, DIM)), repeated).reshape(BATCH, *samples)
    log_weights = log_prior(z) - Normal(mean, deviation).log_prob(z).sum(dim=-1) - nll
    for number, bound in enumerate(bounds):
        total = bound(log_weights).mean()
        expect_loss(loss_of(model, x, number), nll.mean(), total - nll.mean())


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
def test_the_loss_of_the_hamiltonian_vae_with_steps_of_no_length(shape, likelihood):
    model, x, draws = build_model("pythae_hvae", shape, likelihood, eps_lf=1e-9), images(shape), Draws()
    mean, log_variance = model.encode(x).chunk(2, dim=1)
    z = mean + functional.softplus(log_variance) * draws.normal(BATCH, DIM)
    momentum = draws.normal(BATCH, DIM) / 0.3**0.5
    energy = 0.5 * (z.square() + momentum.square() - log_variance).sum(dim=1)
    torch.testing.assert_close(model.embed(x, stochastic=True, generator=Draws().generator), z)
    expect_loss(loss_of(model, x), likelihood.nll(model.decode(z), x).mean(), energy.mean())


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
def test_the_hamiltonian_vae_descends_the_energy_of_the_benchmarks_likelihood(shape, likelihood):
    """One leapfrog step from z0 with momentum r ends at z0 + e r and r - e/2 (U'(z0) + U'(z1))."""
    step = 1e-3
    model, x, draws = build_model("pythae_hvae", shape, likelihood, eps_lf=step, n_lf=1), images(shape), Draws()
    mean, log_variance = model.encode(x).chunk(2, dim=1)
    start = (mean + functional.softplus(log_variance) * draws.normal(BATCH, DIM)).detach()
    momentum = draws.normal(BATCH, DIM) / 0.3**0.5

    def slope(z):
        z = z.detach().requires_grad_()
        return torch.autograd.grad(likelihood.nll(model.decode(z), x).sum() + 0.5 * z.square().sum(), z)[0]

    end = start + step * momentum
    momentum = momentum - step / 2 * (slope(start) + slope(end))
    energy = 0.5 * (end.square() + momentum.square() - log_variance).sum(dim=1)
    expect_loss(loss_of(model, x), likelihood.nll(model.decode(end), x).mean(), energy.mean())


@pytest.mark.parametrize(("shape", "likelihood"), LIKELIHOODS)
def test_the_losses_of_factor_vae(shape, likelihood):
    model, x, draws = build_model("pythae_factor_vae", shape, likelihood), images(shape), Draws()
    order = draws.permutation(BATCH)
    half, other = x[order[BATCH // 2 :]], x[order[: BATCH // 2]]
    posterior = posterior_of(model, half)
    z = posterior.mean + posterior.stddev * draws.normal(BATCH // 2, DIM)
    joint = model.pythae.discriminator(z)
    correlation = (joint[:, 0] - joint[:, 1]).mean()
    penalty = kl_of(posterior).mean() + 2 * correlation
    expect_loss(loss_of(model, x), likelihood.nll(model.decode(z), half).mean(), penalty)

    posterior = posterior_of(model, other)
    z = posterior.mean + posterior.stddev * draws.normal(BATCH // 2, DIM)
    z = torch.stack([column[draws.permutation(BATCH // 2)] for column in z.T], dim=1)
    separate = model.pythae.discriminator(z)
    critic = 0.5 * -(joint.log_softmax(dim=1)[:, 0].mean() + separate.log_softmax(dim=1)[:, 1].mean())
    expect_loss(loss_of(model, x, 1), torch.zeros(()), critic)


def test_the_critic_of_the_adversarial_autoencoder():
    model, x, draws = build_model("pythae_adversarial_ae"), images(), Draws()
    posterior = posterior_of(model, x)
    z = posterior.mean + posterior.stddev * draws.normal(BATCH, DIM)
    of_codes, of_prior = (model.pythae.discriminator(each).embedding for each in (z, draws.normal(BATCH, DIM)))
    expect_loss(loss_of(model, x, 1), torch.zeros(()), -(of_prior.log() + (1 - of_codes).log()).mean())


def test_structural_similarity_compares_images_in_the_unit_interval():
    model, x = build_model("pythae_msssim_vae"), images()
    posterior = posterior_of(model, x)
    z = posterior.mean + posterior.stddev * Draws().normal(BATCH, DIM)
    expected = pythae_models.msssim_vae.msssim_vae_utils.MSSSIM()(model.decode_images(z), x)
    expect_loss(loss_of(model, x), expected, 0.01 * kl_of(posterior).mean())


def test_the_weights_of_beta_tc_vae():
    """Minibatch-weighted sampling (Chen et al. 2018, eq. 10) with as many images as the batch has."""
    model, x = build_model("pythae_beta_tc_vae", alpha=2.0, beta=5.0, gamma=3.0), images()
    posterior = posterior_of(model, x)
    z = posterior.mean + posterior.stddev * Draws().normal(BATCH, DIM)
    pairs = Normal(posterior.mean[None], posterior.stddev[None]).log_prob(z[:, None])
    joint = pairs.sum(dim=2).logsumexp(dim=1) - 2 * log(BATCH)
    product = (pairs.logsumexp(dim=1) - 2 * log(BATCH)).sum(dim=1)
    conditional = posterior.log_prob(z).sum(dim=1)
    penalty = 2 * (conditional - joint) + 5 * (joint - product) + 3 * (product - log_prior(z))
    torch.testing.assert_close(loss_of(model, x).penalty, penalty.mean(), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", RECORDS)
def test_the_gradient_of_the_reconstruction_error_reaches_the_networks(name):
    model, x = build_model(name), images()
    reconstruction = loss_of(model, x).reconstruction
    inputs = [*model.encoder.parameters(), *model.decoder.parameters()]
    gradients = torch.autograd.grad(reconstruction, inputs, allow_unused=True)
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


def test_a_confident_and_wrong_pixel_keeps_its_gradient():
    """Probabilities in float32, which pythae's own cross-entropy takes, have none beyond a logit of about 17."""
    model, x = build_model("pythae_vae"), torch.zeros(BATCH, *GREY)
    last = [module for module in model.decoder.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias.fill_(40.0)
    loss_of(model, x).total.backward()
    torch.testing.assert_close(last.bias.grad, torch.ones_like(last.bias))


@pytest.mark.parametrize("row", MODELS, ids=lambda row: row.name)
def test_codes_are_means_unless_noise_is_asked_for(row):
    model, x = build_model(f"pythae_{row.name}"), images()
    h = model.encode(x)
    mean = h[:, :DIM]
    torch.testing.assert_close(model.embed(x), row.transform(model.pythae, mean))
    if h.shape[1] == 2 * DIM and row.name != "hvae":
        drawn = row.transform(model.pythae, mean + posterior_of(model, x).stddev * Draws().normal(BATCH, DIM))
        torch.testing.assert_close(model.embed(x, stochastic=True, generator=Draws().generator), drawn)


def test_vq_codes_are_the_nearest_codewords():
    model, x = build_model("pythae_vq_vae"), images()
    words = model.pythae.quantizer.embeddings.weight.flatten()
    h = model.encode(x)
    nearest = words[(h[..., None] - words).abs().argmin(dim=-1)]
    torch.testing.assert_close(model.embed(x), nearest)


def test_the_target_of_the_disentangled_vae_rises_as_in_pythae():
    model, x = build_model("pythae_disentangled_beta_vae", C=60.0, warmup_epoch=3), images()
    divergence = kl_of(posterior_of(model, x))
    for epoch, target in enumerate([15, 30, 45, 60, 60]):
        model.on_epoch(epoch, 5)
        torch.testing.assert_close(loss_of(model, x).penalty, 10 * (divergence - target).abs().mean())


def test_samples_of_the_vamp_prior_are_decoded_components():
    model = build_model("pythae_vamp", number_components=3)
    last = [module for module in model.encoder.modules() if isinstance(module, nn.Linear)][-1]
    with torch.no_grad():
        last.bias[DIM:] = -60.0  # posteriors of no width
        components = posterior_of(model, model.pythae.pseudo_inputs(torch.eye(3)).reshape(3, *GREY)).mean
        samples, expected = model.sample(30, Generator().manual_seed(0)), model.decode_images(components)
    distances = (samples[:, None] - expected[None]).abs().flatten(2).amax(dim=2)
    assert distances.amin(dim=1).max() < 1e-5
    assert set(distances.argmin(dim=1).tolist()) == {0, 1, 2}


def test_building_leaves_batch_statistics_alone():
    layers = build_model("pythae_vq_vae", backbone=CONV).encoder.modules()
    seen = [layer.num_batches_tracked for layer in layers if isinstance(layer, nn.BatchNorm2d)]
    assert seen
    assert not any(seen)


def test_every_model_of_pythae_is_registered_or_has_a_reason():
    classes = [getattr(pythae_models, name) for name in pythae_models.__all__]
    known = {
        each.__name__
        for each in classes
        if inspect.isclass(each) and issubclass(each, pythae_models.BaseAE) and each is not pythae_models.BaseAE
    }
    registered = {row.model.__name__ for row in MODELS}
    without = {name.lower().replace("_", "") for name in known - registered}
    assert registered <= known
    assert {record.name.removeprefix("pythae_").replace("_", "") for record in UNAVAILABLE} == without


def test_the_page_lists_every_model():
    page = (Path(__file__).parents[2] / "docs" / "pythae.md").read_text()
    for record in RECORDS.values():
        params = ", ".join(f"`{name}` {field.default:g}" for name, field in record.params.model_fields.items())
        assert f"| `{record.name}` | {record.summary} | {params} |" in page.splitlines(), record.name
    for record in UNAVAILABLE:
        assert f"| `{record.name}` | {record.reason} |" in page.splitlines(), record.name


@pytest.mark.cuda
@pytest.mark.parametrize("name", RECORDS)
def test_a_step_can_be_recorded_on_cuda(name, digits):
    model = build_model(name).cuda()
    noise = Generator("cuda").manual_seed(0)
    result = fit(model, digits.to("cuda"), Budget(1, batch_size=64), batches=Generator().manual_seed(0), noise=noise)
    assert result.graph_fallback == ""
