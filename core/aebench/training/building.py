"""From a training job to a trained model and its weights."""

from __future__ import annotations

from collections.abc import Callable

import torch
from safetensors.torch import save
from torch import Generator

from aebench.contracts import Autoencoder, ImageDataset
from aebench.planning.specs import TrainingSpec
from aebench.registry.records import Registry
from aebench.training.trainer import EpochLosses, TrainingResult, fit_in_turns
from aebench.training.turns import Turns


def build_model(
    registry: Registry, training: TrainingSpec, input_shape: tuple[int, int, int], seed: int | None = None
) -> Autoencoder:
    """An untrained model on the CPU, initialised from `seed` or the training's own; global state is put back."""
    record = registry.autoencoder(training.model).record
    params = record.params.model_validate(training.params, strict=False)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(training.initialisation_seed if seed is None else seed)
        return record.build(input_shape, training.latent_dim, params)


def train(
    model: Autoencoder,
    data: ImageDataset,
    training: TrainingSpec,
    device: torch.device,
    on_epoch: Callable[[EpochLosses], None],
) -> Turns[TrainingResult]:
    """Fit a model as its training says, on data that lies on `device`; see `aebench.training.trainer.fit_in_turns`."""
    return fit_in_turns(
        model,
        data,
        epochs=training.epochs,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        precision=training.precision,
        batches=Generator().manual_seed(training.batches_seed),
        noise=Generator(device).manual_seed(training.derived_seed("noise")),
        on_epoch=on_epoch,
    )


def weights_of(model: Autoencoder) -> bytes:
    """The state dict as safetensors; tied weights are written once for each name."""
    return save({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
