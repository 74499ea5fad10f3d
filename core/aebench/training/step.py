"""One step of training: a batch, its loss, its gradients, and Adam's update of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Split
from aebench.contracts.models import StageLoss
from aebench.training.precision import arithmetic


class Step:
    """Updates the weights on one batch and adds its losses to `sums`.

    Args:
        loss: the loss to minimise.
        train: the split from which batches are taken.
        parameters: the weights to update.
        learning_rate: Adam's.
        precision: "fp32" or "bf16", of the loss and its gradients.
        noise: a generator on the device, for all randomness in the loss.

    Attributes:
        sums: (3,) float32 on the device: total, reconstruction, penalty, in nats per image, over all batches so far.
        noise: as above; after a failed CUDA capture another generator with the same state.
        optimizer: Adam, without weight decay.
    """

    def __init__(
        self,
        loss: StageLoss,
        train: Split,
        parameters: Sequence[nn.Parameter],
        learning_rate: float,
        precision: str,
        noise: Generator,
    ) -> None:
        self._loss = loss
        self._train = train
        self._precision = precision
        self.optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
        self.sums = torch.zeros(3, device=train.images.device)
        self.noise = noise

    def __call__(self, index: Tensor) -> None:
        """One step on the images at `index`, (B,) int64 on the device."""
        with arithmetic(self._precision, self.sums.device):
            loss = self._loss(self._train.x(index), self.noise)
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        self.sums += torch.stack([loss.total.detach(), loss.reconstruction.detach(), loss.penalty.detach()])

    def state_dict(self) -> dict[str, Any]:
        """The state of the optimiser; `Trainer` saves the state of the noise."""
        return self.optimizer.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.optimizer.load_state_dict(state)
