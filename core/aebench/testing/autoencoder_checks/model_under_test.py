"""The model that the checks examine: how it is built, briefly trained, and given images."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from aebench import contracts
from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    BackboneRecord,
    ModelSpec,
    OptimizerSpec,
    Update,
    default_likelihood,
)
from aebench.contracts.stages import Fit
from aebench.networks import CONV, DENSE
from aebench.registry.loading import create_registry
from aebench.registry.records import Registered, Registry
from aebench.testing.side_effects import seeded_global_generators
from aebench.training.optimizers import build_optimizer

Shape = tuple[int, int, int]

CASES: tuple[tuple[BackboneRecord, Shape, int], ...] = (
    (DENSE, (1, 8, 8), 2),
    (DENSE, (1, 32, 32), 20),
    (DENSE, (3, 10, 6), 5),
    (CONV, (3, 9, 12), 5),
)
TRAINING_IMAGES = 48  # for the few training steps that `cases` takes
EPOCHS = 10  # the budget for which the checks ask a model's stages


@dataclass(frozen=True)
class AutoencoderUnderTest:
    """A registered model with its default parameters."""

    record: AutoencoderRecord

    def build(self, spec: ModelSpec, seed: int = 0) -> Autoencoder:
        """A new model, initialised from `seed`."""
        with seeded_global_generators(seed):
            return self.record.build(spec)

    def spec(self, shape: Shape, latent_dim: int, backbone: BackboneRecord = DENSE) -> ModelSpec:
        """With the default parameters and the default likelihood, and without the backbone if the model has its own."""
        chosen = None if self.record.own_networks else backbone
        return ModelSpec(shape, latent_dim, self.record.params(), chosen, default_likelihood(shape))

    def specs(self) -> Iterator[tuple[str, ModelSpec]]:
        """For several image shapes, latent dims and backbones, each with a name."""
        for backbone, shape, latent_dim in CASES:
            spec = self.spec(shape, latent_dim, backbone)
            on = f" on {backbone.name}" if spec.backbone else ""
            yield f"{shape} images, latent_dim {latent_dim}{on}", spec

    def cases(self, trained: bool = True) -> Iterator[tuple[str, Autoencoder]]:
        """A model in evaluation mode for each of `specs`; `trained` ones have taken some steps."""
        for case, spec in self.specs():
            model = self.build(spec)
            yield case, _briefly_trained(model) if trained else model.eval()

    @cached_property
    def registry(self) -> Registry:
        """Everything installed, with this model alone among the models."""
        installed = create_registry()
        model = Registered(self.record, contracts.__name__, "aebench", "")  # no result is kept, so any code will do
        return replace(installed, autoencoders={self.record.name: model})


def random_images(shape: tuple[int, ...], n: int = 6, seed: int = 0) -> Tensor:
    """Noise: (n, *shape) float32 in [0, 1]."""
    return torch.rand(n, *shape, generator=seeded_generator(seed))


def random_bytes(shape: tuple[int, ...]) -> Tensor:
    """Noise to fit a model to: (48, *shape) uint8."""
    return (random_images(shape, TRAINING_IMAGES) * 255).byte()


def seeded_generator(seed: int = 0) -> Generator:
    """A new generator on the CPU."""
    return Generator().manual_seed(seed)


def equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors have the same shape and the same values."""
    return one.shape == other.shape and torch.equal(one, other)


def updates(model: Autoencoder) -> Iterator[tuple[str, Update]]:
    """Each update of each stage, with the name of its stage; of a model without any, its own loss."""
    found = [(stage.name, update) for stage in model.stages(EPOCHS) for update in stage.updates]
    yield from found or [("loss", Update(model.loss, ()))]


def fits(model: Autoencoder) -> list[Fit]:
    """The fits in closed form among the stages of a model, without gradients, as a training calls them."""
    return [torch.no_grad()(stage.fit) for stage in model.stages(EPOCHS) if stage.fit is not None]


def _briefly_trained(model: Autoencoder) -> Autoencoder:
    model.on_epoch(EPOCHS - 1, EPOCHS)  # whatever is annealed has its last value
    for stage in model.stages(EPOCHS):
        model.eval()
        if stage.fit is not None:
            with torch.no_grad():
                stage.fit(random_bytes(model.input_shape), seeded_generator())
            continue
        for module in stage.trains:
            module.train()
        for seed in range(2):
            x = random_images(model.input_shape, TRAINING_IMAGES // 2, seed)
            for update in stage.updates:
                take_step(update, x, seeded_generator(seed))
    return model.eval()


def take_step(update: Update, x: Tensor, generator: Generator) -> None:
    """One step of a new Adam for an update, on images x."""
    parameters = update.parameters
    optimizer = build_optimizer(OptimizerSpec(), parameters)
    optimizer.zero_grad()
    update.loss(x, generator).total.backward(inputs=parameters)
    optimizer.step()
