"""Stages and their updates: fits in closed form, budgets, optimisers of their own, order, and resumption."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from sklearn.decomposition import PCA
from torch import Generator

from aebench.contracts import Autoencoder, Loss, OptimizerSpec, Split, Stage, Update, to_unit_interval
from aebench.errors import BudgetExceeded, TrainingDiverged
from aebench.training.records import Budget
from aebench.training.trainer import Trainer
from tests.unit.small_trainings import assert_equal, fit_briefly, new_trainer, small_spec, weights_of


class Principal(Autoencoder):
    """PCA: a model without gradients, logits and stages."""

    def __init__(self):
        super().__init__(small_spec(20))
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
    result = fit_briefly(model, digits)
    assert result.epochs == ()
    x = digits.test.x()
    assert (model.reconstruct(x) - x).square().mean() < 0.3 * (x - x.mean(dim=0)).square().mean()


class TooManyEpochs(Autoencoder):
    """Its stages need `factor` times the epochs of the budget."""

    def __init__(self, factor):
        super().__init__(small_spec(64), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 8, 8)))
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
        fit_briefly(TooManyEpochs(10), digits, epochs=4)
    assert len(fit_briefly(TooManyEpochs(1), digits, epochs=4).epochs) == 4


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
        fit_briefly(SecretlyTrained(), digits)
    fit_briefly(Principal(), digits)


def test_the_result_counts_steps_images_and_parameters(build, digits):
    model = build("vanilla")
    result = fit_briefly(model, digits, epochs=3)
    steps = len(digits.train) // 64
    assert result.optimizer_steps == 3 * steps
    assert result.images_seen == 3 * steps * 64
    assert result.parameters == sum(value.numel() for value in model.parameters())
    assert result.seconds > 0
    closed = fit_briefly(Principal(), digits)
    assert (closed.images_seen, closed.optimizer_steps) == (len(digits.train), 0)


class Adversarial(Autoencoder):
    """Two updates on every batch: the reconstruction by encoder and decoder, and a critic of codes by a critic."""

    def __init__(self, build):
        base = build("vanilla")
        super().__init__(small_spec(base.latent_dim), base.encoder, base.decoder)
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
    result = fit_briefly(model, few, epochs=1)
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
        fit_briefly(CriticDiverges(build), digits)


class Prepared(Autoencoder):
    """Fitted twice in closed form, before and after its training by gradients; counts its epochs in a buffer."""

    def __init__(self, build):
        base = build("vanilla")
        super().__init__(small_spec(base.latent_dim), base.encoder, base.decoder)
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
    trainer, turns = new_trainer(model, digits, epochs=2), []
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
    assert_equal(weights_of(resumed), weights_of(whole))


def test_parameters_that_a_stage_froze_require_gradients_after_it(build, digits):
    model = build("stacked")
    trainer = new_trainer(model, digits, epochs=3)
    frozen = []
    while not trainer.done:
        trainer.start_turn()
        frozen.append(sum(not parameter.requires_grad for parameter in model.parameters()))
        trainer.finish_turn()
    assert all(frozen)
    assert all(parameter.requires_grad for parameter in model.parameters())
