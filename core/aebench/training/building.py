"""Builds the model and the trainer that a training's spec describes, and saves trained weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from safetensors.torch import save
from torch import Generator

from aebench.contracts import Autoencoder, ImageDataset, ModelSpec
from aebench.planning.specs import TrainingSpec
from aebench.training.records import Budget
from aebench.training.trainer import Trainer

if TYPE_CHECKING:
    from aebench.registry.records import Registry


def build_model(
    registry: Registry, spec: TrainingSpec, input_shape: tuple[int, int, int], seed: int | None = None
) -> Autoencoder:
    """An untrained model on the CPU, initialised from `seed` or the seed of the spec.

    The global random state is restored.
    """
    record = registry.autoencoder(spec.model).record
    backbone = registry.backbone(spec.backbone).record if spec.backbone else None
    params = record.params.model_validate(spec.params, strict=False)
    model_spec = ModelSpec(input_shape, spec.latent_dim, params, backbone, spec.likelihood)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.initialisation_seed if seed is None else seed)
        return record.build(model_spec)


def build_trainer(model: Autoencoder, data: ImageDataset, spec: TrainingSpec, device: torch.device) -> Trainer:
    """A trainer with the budget and the seeds of the spec; `model` and `data` lie on `device`.

    Raises:
        BudgetExceeded: the stages of the model need more epochs than the spec has.
    """
    budget = Budget(spec.epochs, spec.batch_size, spec.optimizer, spec.precision, spec.patience)
    batches = Generator().manual_seed(spec.batches_seed)
    noise = Generator(device).manual_seed(spec.derived_seed("noise"))
    return Trainer(model, data, budget, batches, noise)


def weights_of(model: Autoencoder) -> bytes:
    """The state dict in the safetensors format; tied weights are written once for each name."""
    return save({name: value.detach().cpu().clone().contiguous() for name, value in model.state_dict().items()})
