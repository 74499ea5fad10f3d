"""Trains a model for its whole budget: by gradients, or by its own `fit` method."""

from __future__ import annotations

import time
from collections.abc import Callable

from torch import Generator
from torch.optim.optimizer import register_optimizer_step_post_hook

from aebench.contracts import Autoencoder, ImageDataset, SelfFitting, Split
from aebench.errors import BudgetExceeded
from aebench.training.records import Budget, EpochLosses, TrainingResult
from aebench.training.stages import parameter_count
from aebench.training.trainer import Trainer, step_runner


def fit(
    model: Autoencoder,
    data: ImageDataset,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    batches: Generator,
    noise: Generator,
    precision: str = "fp32",
    on_epoch: Callable[[EpochLosses], None] = lambda losses: None,
) -> TrainingResult:
    """Train a model for its whole budget, or call its own `fit` method; for the arguments see `Trainer` and `Budget`.

    Raises:
        BudgetExceeded: the stages of the model need more epochs than the budget has.
        TrainingDiverged: the loss of an epoch is not finite.
    """
    if isinstance(model, SelfFitting):
        return fit_in_closed_form(model, data.train, noise)
    trainer = Trainer(model, data, Budget(epochs, batch_size, learning_rate, precision), batches, noise)
    while not trainer.done:
        on_epoch(trainer.run_epoch())
    return trainer.result()


def fit_in_closed_form(model: Autoencoder, train: Split, noise: Generator) -> TrainingResult:
    """Call the `fit` method of a model that is not trained by gradients, on all training images."""
    assert isinstance(model, SelfFitting)
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = register_optimizer_step_post_hook(count)
    runner = step_runner(noise.device)
    started = time.perf_counter()
    try:
        with runner.context():
            model.fit(train.images, noise)
    finally:
        hook.remove()
    if steps:
        raise BudgetExceeded(f"a fit in closed form has a budget of 0 optimiser steps, this one took {steps}")
    runner.synchronize()
    seconds = time.perf_counter() - started
    model.eval()
    return TrainingResult((), seconds, len(train), 0, parameter_count(model))
