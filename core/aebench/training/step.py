"""One step of training: a batch, its losses, their gradients, and the optimisers' updates of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Loss, OptimizerSpec, Split, Update
from aebench.contracts.stages import UpdateLoss
from aebench.errors import AebenchError
from aebench.training.optimizers import AnyOptimizer, build_optimizer, set_learning_rate
from aebench.training.precision import arithmetic


@dataclass(frozen=True)
class _Update:
    loss: UpdateLoss
    parameters: list[nn.Parameter]
    spec: OptimizerSpec
    optimizer: AnyOptimizer


class Step:
    """Takes every update of a stage on one batch, in order, and adds their losses to `sums`.

    Args:
        updates: losses, and the modules whose trainable parameters each of them updates.
        train: the split from which batches are taken.
        optimizer: for updates that do not name their own.
        precision: "fp32" or "bf16", of the losses and their gradients.
        noise: a generator on the device, for all randomness in the losses.

    Attributes:
        sums: (updates, 3) float32 on the device: total, reconstruction, penalty, in nats per image, over all batches so
            far.
        noise: as above; after a failed CUDA capture another generator with the same state.
    """

    def __init__(
        self, updates: Sequence[Update], train: Split, optimizer: OptimizerSpec, precision: str, noise: Generator
    ) -> None:
        self._train = train
        self._precision = precision
        self._updates = [_prepare(update, optimizer) for update in updates]
        self.sums = torch.zeros(len(updates), 3, device=train.images.device)
        self.noise = noise

    @property
    def optimizers(self) -> list[AnyOptimizer]:
        """The optimiser of each update."""
        return [update.optimizer for update in self._updates]

    def __call__(self, index: Tensor) -> None:
        """One step on the images at `index`, (B,) int64 on the device; see `checked_loss` for what it raises."""
        x = self._train.x(index)
        for update, sums in zip(self._updates, self.sums, strict=True):
            with arithmetic(self._precision, sums.device):
                loss = checked_loss(update.loss, update.loss(x, self.noise))
            update.optimizer.zero_grad()
            # Only the update's own parameters: its loss may depend on others, such as those of a discriminator.
            loss.total.backward(inputs=update.parameters)
            update.optimizer.step()
            sums += torch.stack([loss.total.detach(), loss.reconstruction.detach(), loss.penalty.detach()])

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Set the learning rates of epoch 0, 1, ... of a stage of `epochs`."""
        for update in self._updates:
            if update.spec.varies:
                set_learning_rate(update.optimizer, update.spec.learning_rate_in(epoch, epochs))

    def state_dict(self) -> list[dict[str, Any]]:
        """The states of the optimisers; `Trainer` saves the state of the noise."""
        return [update.optimizer.state_dict() for update in self._updates]

    def load_state_dict(self, states: Sequence[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        for update, state in zip(self._updates, states, strict=True):
            update.optimizer.load_state_dict(state)


def checked_loss(by: UpdateLoss, loss: Any) -> Loss:
    """What the loss function `by` has returned, if it is a Loss of scalars.

    Raises:
        AebenchError: it is something else.
    """
    if not isinstance(loss, Loss):
        raise AebenchError(f"{_name(by)} returned a value of type {type(loss).__name__}, a Loss is expected")
    for part in ("total", "reconstruction", "penalty"):
        value = getattr(loss, part)
        if not isinstance(value, Tensor) or value.dim():
            found = f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"of type {type(value).__name__}"
            raise AebenchError(f"{_name(by)} returned a Loss whose {part} is {found}, a scalar tensor is expected")
    return loss


def _name(function: UpdateLoss) -> str:
    return str(getattr(function, "__qualname__", function))


def _prepare(update: Update, default: OptimizerSpec) -> _Update:
    spec, parameters = update.optimizer or default, update.parameters
    return _Update(update.loss, parameters, spec, build_optimizer(spec, parameters))
