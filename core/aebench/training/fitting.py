"""Trains a model for its whole budget in one call."""

from __future__ import annotations

from collections.abc import Callable

from torch import Generator

from aebench.contracts import Autoencoder, ImageDataset
from aebench.training.records import Budget, EpochLosses, TrainingResult
from aebench.training.trainer import Trainer


def fit(
    model: Autoencoder,
    data: ImageDataset,
    budget: Budget,
    *,
    batches: Generator,
    noise: Generator,
    on_epoch: Callable[[EpochLosses], None] = lambda losses: None,
) -> TrainingResult:
    """Train a model for its whole budget; for the other arguments and the errors see `Trainer`.

    Args:
        on_epoch: called with the losses of each epoch.
    """
    trainer = Trainer(model, data, budget, batches, noise)
    while not trainer.done:
        losses = trainer.run_epoch()
        if losses is not None:
            on_epoch(losses)
    return trainer.result()
