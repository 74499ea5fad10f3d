"""The training loop: learning, reproducibility, global state, stages, errors, and concurrent trainings."""

from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator

from aebench.contracts import (
    Autoencoder,
    Bernoulli,
    Loss,
    ModelSpec,
    OptimizerSpec,
    Params,
    Split,
    Stage,
    Update,
    to_unit_interval,
)
from aebench.errors import BudgetExceeded, TrainingDiverged
from aebench.networks import DENSE
from aebench.training.fitting import fit
from aebench.training.records import Budget
from aebench.training.step_runner import StepRunner
from aebench.training.trainer import Trainer


def _spec(latent_dim):
    return ModelSpec((1, 8, 8), latent_dim, Params(), DENSE, Bernoulli())


def _fit(model, data, epochs=2, **more):
    noise = Generator(data.train.images.device).manual_seed(2)
    return fit(model, data, Budget(epochs, 64, **more), batches=Generator().manual_seed(1), noise=noise)


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
def test_the_same_seeds_give_the_same_weights_and_global_state_is_unchanged(build, digits, name):
    torch.manual_seed(5)
    before = torch.get_rng_state()
    one, two = build(name), build(name)
    _fit(one, digits)
    _fit(two, digits)
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(a, b)


class _CountingRunner(StepRunner):
    """Counts the steps that a stage takes after it was prepared."""

    def __init__(self):
        self.warmed_up, self.prepared, self.taken = 0, 0, 0

    def warm_up(self, step, index):
        self.warmed_up += 1
        super().warm_up(step, index)

    def prepare(self, step, batch_size):
        self.prepared += 1

        def take(index):
            assert index.shape == (batch_size,)
            self.taken += 1
            step(index)

        return take


def test_every_step_is_taken_by_the_runner_of_the_device(build, digits, monkeypatch):
    runner = _CountingRunner()
    expected = _fit(build("stacked"), digits, epochs=6)
    monkeypatch.setattr("aebench.training.trainer.step_runner", lambda device: runner)
    found = _fit(build("stacked"), digits, epochs=6)
    stages = len({losses.stage for losses in expected.epochs})
    assert found.epochs == expected.epochs
    assert stages > 1
    assert (runner.warmed_up, runner.prepared, runner.taken) == (stages, stages, found.optimizer_steps)


@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_bf16_reaches_the_loss_of_fp32_and_keeps_float32_weights(build, digits, name):
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


def test_fewer_images_than_a_batch_are_one_batch(build, digits):
    few = replace(digits, train=Split(digits.train.images[:10]))
    assert len(_fit(build("vanilla"), few, epochs=1).epochs) == 1


class Diverging(Autoencoder):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return replace(loss, total=loss.total * float("nan"))


def test_a_diverging_training_raises(digits):
    model = Diverging(
        _spec(64),
        torch.nn.Flatten(),
        torch.nn.Sequential(torch.nn.Linear(64, 64), torch.nn.Unflatten(1, (1, 8, 8))),
    )
    with pytest.raises(TrainingDiverged, match="became nan in epoch 1"):
        _fit(model, digits)


class Principal(Autoencoder):
    """PCA: a model without gradients, logits and stages."""

    def __init__(self):
        super().__init__(_spec(20))
        self.register_buffer("mean", torch.zeros(64))
        self.register_buffer("components", torch.zeros(20, 64))

    def stages(self, epochs):
        return (Stage("closed form", fit=self.fit),)

    def fit(self, images, generator):
        pca = PCA(self.latent_dim, random_state=generator.initial_seed() % 2**32).fit(images.flatten(1).numpy() / 255)
        self.mean.copy_(torch.from_numpy(pca.mean_))
        self.components.copy_(torch.from_numpy(pca.components_))

    def encode(self, x):
        return (x.flatten(1) - self.mean) @ self.components.T

    def decode(self, z):
        return torch.logit((z @ self.components + self.mean).clamp(1e-4, 1 - 1e-4)).unflatten(1, self.input_shape)


def test_a_model_without_gradients_is_fitted_in_closed_form(digits):
    model = Principal()
    result = _fit(model, digits)
    assert result.epochs == ()
    x = digits.test.x()
    assert (model.reconstruct(x) - x).square().mean() < 0.3 * (x - x.mean(dim=0)).square().mean()


class TooManyEpochs(Autoencoder):
    """Its stages need `factor` times the epochs of the budget."""

    def __init__(self, factor):
        super().__init__(_spec(64), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
        self.weight = torch.nn.Parameter(torch.ones(64))
        self.factor = factor

    def decode(self, z):
        return super().decode(z * self.weight)

    def stages(self, epochs):
        each = epochs * self.factor // 2
        update = Update(self.loss, (self,))
        return Stage("first", each, (update,)), Stage("second", each, (update,))


def test_stages_that_exceed_the_budget_raise_an_error_with_both_numbers(digits):
    with pytest.raises(BudgetExceeded, match="ask for 40 epochs, the budget is 4"):
        _fit(TooManyEpochs(10), digits, epochs=4)
    assert len(_fit(TooManyEpochs(1), digits, epochs=4).epochs) == 4


class SecretlyTrained(Principal):
    """Takes gradient steps in what should be a fit in closed form."""

    def fit(self, images, generator):
        weight = torch.nn.Parameter(torch.ones(3))
        optimizer = torch.optim.SGD([weight], lr=0.1)
        for _ in range(7):
            with torch.enable_grad():
                weight.sum().backward()
            optimizer.step()
        super().fit(images, generator)


def test_gradient_steps_in_a_fit_in_closed_form_fail_with_their_number(digits):
    with pytest.raises(BudgetExceeded, match="budget of 0 optimiser steps, this one took 7"):
        _fit(SecretlyTrained(), digits)
    _fit(Principal(), digits)


def test_the_result_counts_steps_images_and_parameters(build, digits):
    model = build("vanilla")
    result = _fit(model, digits, epochs=3)
    steps = len(digits.train) // 64
    assert result.optimizer_steps == 3 * steps
    assert result.images_seen == 3 * steps * 64
    assert result.parameters == sum(value.numel() for value in model.parameters())
    assert result.seconds > 0
    closed = _fit(Principal(), digits)
    assert (closed.images_seen, closed.optimizer_steps) == (len(digits.train), 0)


class Adversarial(Autoencoder):
    """Two updates on every batch: the reconstruction by encoder and decoder, and a critic of codes by a critic."""

    def __init__(self, build):
        base = build("vanilla")
        super().__init__(_spec(base.latent_dim), base.encoder, base.decoder)
        self.critic = torch.nn.Linear(self.latent_dim, 1)

    def loss(self, x, generator):
        loss = super().loss(x, generator)
        penalty = self.critic(self.encode(x)).square().mean()
        return Loss(loss.reconstruction + penalty, loss.reconstruction, penalty)

    def critic_loss(self, x, generator):
        total = (self.critic(self.encode(x)) - 3).square().mean()
        return Loss(total, total.new_zeros(()), total)

    def stages(self, epochs):
        critic = Update(self.critic_loss, (self.critic,), OptimizerSpec(name="sgd", learning_rate=0.1))
        return (Stage("end to end", epochs, (Update(self.loss, (self.encoder, self.decoder)), critic)),)


def test_every_update_trains_its_own_modules_with_its_own_optimiser(build, digits):
    model, twin = Adversarial(build), Adversarial(build)
    twin.load_state_dict(model.state_dict())
    few = replace(digits, train=Split(digits.train.images[:64]))
    result = _fit(model, few, epochs=1)
    assert (result.optimizer_steps, result.images_seen) == (2, 64)
    x = few.train.x(torch.randperm(64, generator=Generator().manual_seed(1)))
    twin.train()
    networks = [*twin.encoder.parameters(), *twin.decoder.parameters()]
    for loss, optimizer, parameters in (
        (twin.loss, torch.optim.Adam(networks, lr=1e-3), networks),
        (twin.critic_loss, torch.optim.SGD(twin.critic.parameters(), lr=0.1), list(twin.critic.parameters())),
    ):
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(loss(x, Generator()).total, parameters), strict=True
        ):
            parameter.grad = gradient
        optimizer.step()
    for (name, found), expected in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5, msg=name)


class CriticDiverges(Adversarial):
    def critic_loss(self, x, generator):
        loss = super().critic_loss(x, generator)
        return replace(loss, total=loss.total + float("inf"))


def test_a_diverging_second_update_raises(build, digits):
    with pytest.raises(TrainingDiverged, match=r"became inf in epoch 1 \(end to end, update 2\)"):
        _fit(CriticDiverges(build), digits)


class Prepared(Autoencoder):
    """Fitted twice in closed form, before and after its training by gradients; counts its epochs in a buffer."""

    def __init__(self, build):
        base = build("vanilla")
        super().__init__(_spec(base.latent_dim), base.encoder, base.decoder)
        self.register_buffer("fits", torch.zeros(2))
        self.register_buffer("schedule", torch.zeros(2))

    def on_epoch(self, epoch, epochs):
        self.schedule.copy_(torch.tensor([epoch, epochs]))

    def stages(self, epochs):
        return (
            Stage("before", fit=lambda images, generator: self._fit(0, images, generator)),
            Stage("end to end", epochs, (Update(self.loss, (self,)),)),
            Stage("after", fit=lambda images, generator: self._fit(1, images, generator)),
        )

    def _fit(self, number, images, generator):
        assert not self.training
        code = self.embed(to_unit_interval(images[:100])).abs().mean()
        self.fits[number] = torch.rand((), generator=generator) + self.fits.sum() + code


def test_fits_and_epochs_take_turns_in_the_order_of_the_stages(build, digits):
    model = Prepared(build)
    trainer, turns = _trainer(model, digits, epochs=2), []
    while not trainer.done:
        losses = trainer.run_epoch()
        turns.append((losses and losses.epoch, bool(model.fits[0]), bool(model.fits[1]), model.schedule.tolist()))
    assert turns == [
        (None, True, False, [0, 0]),
        (1, True, False, [0, 2]),
        (2, True, False, [1, 2]),
        (None, True, True, [1, 2]),
    ]
    assert model.fits[1] > model.fits[0]
    steps = len(digits.train) // 64
    assert trainer.result().images_seen == 2 * steps * 64 + 2 * len(digits.train)


SCHEDULED = OptimizerSpec(name="adamw", weight_decay=0.01, warm_up=2, schedule="cosine")


@pytest.mark.parametrize("done", range(5))
def test_a_training_with_fits_and_a_schedule_resumes_with_identical_results(build, digits, done):
    def trainer(model):
        budget = Budget(3, 64, SCHEDULED)
        return Trainer(model, digits, budget, Generator().manual_seed(1), Generator().manual_seed(2))

    whole, resumed = Prepared(build), Prepared(build)
    expected, first, second = trainer(whole), trainer(Prepared(build)), trainer(resumed)
    while not expected.done:
        expected.run_epoch()
    for _ in range(done):
        first.run_epoch()
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.run_epoch()
    assert second.result().epochs == expected.result().epochs
    assert second.result().optimizer_steps == expected.result().optimizer_steps
    _assert_equal(_weights(resumed), _weights(whole))


class Wanders(Autoencoder):
    """Its validation loss follows a script: `on_epoch` writes the loss of the epoch into a buffer."""

    script = (5.0, 3.0, 4.0, 2.0, 6.0, 7.0, 8.0, 1.0)

    def __init__(self):
        super().__init__(_spec(64), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.register_buffer("level", torch.zeros(()))

    def on_epoch(self, epoch, epochs):
        self.level.fill_(self.script[epoch])

    def loss(self, x, generator):
        total = self.level + 0 * self.weight
        return Loss(total, total, total.new_zeros(()))


@pytest.mark.parametrize(
    ("patience", "epochs", "used", "kept"),
    [(1, 8, 3, 3.0), (2, 8, 6, 2.0), (4, 8, 8, 1.0), (9, 8, 8, 1.0), (3, 5, 5, 2.0), (1, 2, 2, 3.0), (None, 7, 7, 8.0)],
)
def test_early_stopping_ends_a_stage_and_keeps_its_best_weights(digits, patience, epochs, used, kept):
    model = Wanders()
    result = _fit(model, digits, epochs=epochs, patience=patience)
    assert result.epochs_used == len(result.epochs) == used
    assert model.level == kept


@pytest.mark.parametrize("done", range(6))
def test_early_stopping_resumes_with_identical_results(digits, done):
    def trainer(model):
        return Trainer(model, digits, Budget(8, 64, patience=2), Generator().manual_seed(1), Generator())

    first, resumed = trainer(Wanders()), Wanders()
    for _ in range(done):
        first.run_epoch()
    second = trainer(resumed)
    second.load_state_dict(first.state_dict())
    while not second.done:
        second.run_epoch()
    assert second.result().epochs_used == 6
    assert resumed.level == 2.0


class NotANumber(Wanders):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return loss if self.training else replace(loss, total=loss.total * float("nan"))


def test_early_stopping_needs_a_finite_validation_loss(digits):
    with pytest.raises(TrainingDiverged, match=r"the validation loss became nan in epoch 1 \(end to end\)"):
        _fit(NotANumber(), digits, patience=1)
    assert _fit(NotANumber(), digits).epochs_used == 2


class TwoStages(Wanders):
    """Two stages of half the budget; notes what `on_epoch` is told."""

    def __init__(self):
        super().__init__()
        self.told = []

    def on_epoch(self, epoch, epochs):
        super().on_epoch(epoch % 4, epochs)
        self.told.append((epoch, epochs))

    def stages(self, epochs):
        return tuple(Stage(name, epochs // 2, (Update(self.loss, (self,)),)) for name in ("first", "second"))


def test_a_stage_begins_at_its_own_epoch_after_one_that_stopped_early(digits):
    model = TwoStages()
    _fit(model, digits, epochs=8, patience=1)
    assert model.told == [(0, 8), (1, 8), (2, 8), (4, 8), (5, 8), (6, 8)]


def test_each_stage_stops_early_by_itself(build, digits):
    model = build("stacked")
    result = _fit(model, digits, epochs=30, patience=1, optimizer=OptimizerSpec(learning_rate=0.2))
    stages = [losses.stage for losses in result.epochs]
    assert len(dict.fromkeys(stages)) == 3
    assert len(stages) < 30


def test_the_schedule_changes_the_training(build, digits):
    constant, falling = build("vanilla"), build("vanilla")
    _fit(constant, digits, epochs=3)
    _fit(falling, digits, epochs=3, optimizer=OptimizerSpec(schedule={"name": "step", "every": 1}))
    assert any(not torch.equal(a, b) for a, b in zip(_weights(constant), _weights(falling), strict=True))


def _trainer(model, data, epochs=6):
    generators = Generator().manual_seed(1), Generator(data.train.images.device).manual_seed(2)
    return Trainer(model, data, Budget(epochs, 64), *generators)


def _weights(model):
    return [value.clone() for value in model.state_dict().values()]


def _assert_equal(one, other):
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("done", [1, 2, 3, 6])
@pytest.mark.parametrize("name", ["stacked", "denoising", "vae"])
def test_a_training_resumes_from_its_state_with_identical_results(build, digits, name, done):
    whole = build(name)
    expected = _trainer(whole, digits)
    while not expected.done:
        expected.run_epoch()

    first = _trainer(build(name), digits)
    for _ in range(done):
        first.run_epoch()
    state = first.state_dict()
    if not first.done:
        first.run_epoch()  # which must not change the state
    resumed = build(name)
    second = _trainer(resumed, digits)
    second.load_state_dict(state)
    while not second.done:
        second.run_epoch()
    assert second.result().epochs == expected.result().epochs
    _assert_equal(_weights(resumed), _weights(whole))


def test_trainings_that_take_turns_give_the_results_of_trainings_alone(build, digits, registry):
    names = [name for name in registry.autoencoders if any(stage.updates for stage in build(name).stages(3))]
    alone, concurrent = ({name: build(name) for name in names} for _ in range(2))
    expected = {name: _fit(model, digits, epochs=3).epochs for name, model in alone.items()}
    trainers = {name: _trainer(model, digits, epochs=3) for name, model in concurrent.items()}
    for _ in range(3):
        for trainer in trainers.values():
            trainer.start_epoch()
        for trainer in trainers.values():
            trainer.finish_epoch()
    for name, trainer in trainers.items():
        assert trainer.done
        assert trainer.result().epochs == expected[name]
        _assert_equal(_weights(concurrent[name]), _weights(alone[name]))


def test_parameters_that_a_stage_froze_require_gradients_after_it(build, digits):
    model = build("stacked")
    trainer = _trainer(model, digits, epochs=3)
    frozen = []
    while not trainer.done:
        trainer.start_epoch()
        frozen.append(sum(not parameter.requires_grad for parameter in model.parameters()))
        trainer.finish_epoch()
    assert all(frozen)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_linear_layers_of_a_model_use_the_fast_products(build, digits, monkeypatch):
    from aebench.training import fast_products

    if not fast_products._has_fast_products():
        pytest.skip("this processor has no AVX-512")
    calls = []
    original = fast_products._onednn
    monkeypatch.setattr(fast_products, "_onednn", lambda *arguments: calls.append(arguments) or original(*arguments))
    monkeypatch.setattr(fast_products, "SMALLEST", 0)
    _fit(build("vanilla"), digits, epochs=1)
    assert calls


@pytest.mark.cuda
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_trainings_on_their_own_streams_give_the_results_of_trainings_alone(build, digits, precision):
    data = digits.to("cuda")
    names = ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"]

    def trainer(name):
        generators = Generator().manual_seed(1), Generator("cuda").manual_seed(2)
        return Trainer(build(name).cuda(), data, Budget(3, 64, precision=precision), *generators)

    expected, concurrent = ({name: trainer(name) for name in names} for _ in range(2))
    for one in expected.values():
        while not one.done:
            one.run_epoch()
    for _ in range(3):
        for one in concurrent.values():
            one.start_epoch()
        for one in concurrent.values():
            one.finish_epoch()
    for name, one in concurrent.items():
        assert one.result().graph_fallback == expected[name].result().graph_fallback == ""
        for found, reference in zip(one.result().epochs, expected[name].result().epochs, strict=True):
            assert found.total == pytest.approx(reference.total, rel=1e-3)
            assert found.validation == pytest.approx(reference.validation, rel=1e-2)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "stacked", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_on_cuda_agrees_with_one_on_the_cpu(build, digits, name):
    on_cpu = _fit(build(name), digits).epochs[-1].total
    model = build(name).cuda()
    on_cuda = _fit(model, digits.to("cuda")).epochs[-1].total
    assert on_cuda == pytest.approx(on_cpu, rel=0.03)


@pytest.mark.cuda
@pytest.mark.parametrize("name", ["vanilla", "sparse", "denoising", "vae", "vq_vae"])
def test_a_training_step_can_be_captured_in_a_cuda_graph(build, digits, name):
    """The loss has no host synchronisation and no Python code that depends on values."""
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
