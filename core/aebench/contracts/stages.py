"""How a model is trained: in stages, each of which fits modules in closed form or updates them on every batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor, nn

from aebench.contracts.optimizers import OptimizerSpec


@dataclass(frozen=True)
class Loss:
    """The training loss and its parts, scalars in nats per image; `total` is minimised."""

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor


UpdateLoss = Callable[[Tensor, Generator], Loss]
Fit = Callable[[Tensor, Generator], None]


@dataclass(frozen=True)
class Update:
    """One optimiser step on every batch: which modules it trains, and with which loss.

    Attributes:
        loss: (x, generator) -> Loss, with x (B, *input_shape) float32 in [0, 1].
        trains: the modules whose parameters get the gradients of this loss and change; no others do.
        optimizer: None for the benchmark's, so that models are comparable.
    """

    loss: UpdateLoss
    trains: tuple[nn.Module, ...]
    optimizer: OptimizerSpec | None = None

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The trainable parameters of the modules, each once."""
        unique = {id(parameter): parameter for module in self.trains for parameter in module.parameters()}
        return [parameter for parameter in unique.values() if parameter.requires_grad]


@dataclass(frozen=True)
class Stage:
    """A part of the training: either updates by gradients for some epochs, or one fit in closed form.

    During a stage the modules that its updates train are in training mode. Every other module is frozen: evaluation
    mode, no gradients, unchanged batch-norm statistics.

    Attributes:
        name: shown in the progress display.
        epochs: passes over the training images; a stage of 0 epochs without a fit is left out.
        updates: taken on every batch, in this order; an adversarial model has two. The loss of the first one is
            monitored.
        fit: (images, generator) -> None, with all training images (N, *input_shape) uint8 in 0..255 on the model's
            device: for what is fitted in closed form, such as PCA or initial values from data. It takes no optimiser
            steps and costs no epochs. It is called without gradients, with the model in evaluation mode. What it
            learns belongs in buffers and parameters, whose shapes it keeps.

    Raises:
        ValueError: a stage has both updates and a fit, or a fit and epochs, or epochs without updates, or a number of
            epochs that is not a whole number of at least 0.
    """

    name: str
    epochs: int = 0
    updates: tuple[Update, ...] = ()
    fit: Fit | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.epochs, int) or self.epochs < 0:
            raise ValueError(f"stage '{self.name}' has {self.epochs!r} epochs, which is not a whole number")
        if self.fit is not None and (self.updates or self.epochs):
            raise ValueError(f"stage '{self.name}' has a fit, and so takes no updates and no epochs")
        if self.epochs > 0 and not self.updates:
            raise ValueError(f"stage '{self.name}' has {self.epochs} epochs and no updates")

    @property
    def trains(self) -> tuple[nn.Module, ...]:
        """The modules that its updates train."""
        return tuple(module for update in self.updates for module in update.trains)
