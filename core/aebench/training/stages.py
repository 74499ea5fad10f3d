"""One stage of a training: it trains the modules that it names and freezes all others, or is fitted in closed form."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim.optimizer import register_optimizer_step_post_hook

from aebench.contracts import Autoencoder, ImageDataset, Split, Stage
from aebench.contracts.data import images_at_once_on
from aebench.contracts.stages import Fit, UpdateLoss
from aebench.errors import BudgetExceeded
from aebench.training.fast_products import fast_products
from aebench.training.records import Budget
from aebench.training.step import Step
from aebench.training.step_runner import StepRunner


class StageInTraining:
    """A stage with updates while it is trained; until it is closed, the parameters of all other modules are frozen.

    Args:
        model: the whole model.
        stage: what it trains, with which losses.
        data: the model is fitted to its `train` split and monitored on its `validation` split.
        budget: optimiser and precision.
        batch_size: images per step.
        noise: a generator on the device, for all randomness in the losses.
        runner: runs the steps.
    """

    def __init__(
        self,
        model: Autoencoder,
        stage: Stage,
        data: ImageDataset,
        budget: Budget,
        batch_size: int,
        noise: Generator,
        runner: StepRunner,
    ) -> None:
        self.stage = stage
        self._model = model
        self._data = data
        self._batch_size = batch_size
        self._required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        _freeze_all_but(stage.trains, self._required)
        self.step = Step(stage.updates, data.train, budget.optimizer, budget.precision, noise)
        self._runner = runner
        self._take: Callable[[Tensor], None] | None = None
        self._order: Tensor | None = None  # (steps, batch_size), of the epoch that has begun
        self._generator_before = torch.zeros(0)  # its state before the order was drawn
        self._steps_done = 0
        self._queued = torch.zeros(0)

    @property
    def steps_per_epoch(self) -> int:
        """Batches of one epoch."""
        return len(self._data.train) // self._batch_size

    @property
    def in_epoch(self) -> bool:
        """Whether an epoch has begun and `epoch_losses` has not ended it."""
        return self._order is not None

    def warm_up(self) -> None:
        """Take a step whose result does not matter."""
        self._train_mode()
        self._runner.warm_up(self.step, torch.arange(self._batch_size, device=self.step.sums.device))

    def begin_epoch(self, epoch: int, batches: Generator) -> None:
        """Begin one pass over the training images.

        Args:
            epoch: 0, 1, ... of this stage.
            batches: a CPU generator that decides the order of the images.
        """
        self._generator_before = batches.get_state()
        self.step.set_epoch(epoch, self.stage.epochs)
        self.step.sums.zero_()
        used = self.steps_per_epoch * self._batch_size
        order = torch.randperm(len(self._data.train), generator=batches)[:used].to(self.step.sums.device)
        self._order, self._steps_done = order.view(-1, self._batch_size), 0

    def queue_steps(self, seconds: float) -> bool:
        """Queue the next steps of the epoch, and after the last one the loss on the validation images.

        Args:
            seconds: no step is queued after this time; at least one is.

        Returns:
            Whether the whole epoch has been queued.
        """
        assert self._order is not None, "no epoch has begun"
        end = time.perf_counter() + seconds
        self._train_mode()
        if self._take is None:
            self._take = self._runner.prepare(self.step, self._batch_size)
        for index in self._order[self._steps_done :]:
            self._take(index)
            self._steps_done += 1
            if time.perf_counter() >= end:
                break
        if self._steps_done < self.steps_per_epoch:
            return False
        self._model.eval()
        validation = _mean_loss(self.stage.updates[0].loss, self._data.validation, self.step.noise)
        self._queued = torch.cat([self.step.sums.flatten() / self.steps_per_epoch, validation[None]])
        return True

    def epoch_losses(self) -> tuple[list[list[float]], float]:
        """Wait for the queued epoch and end it; return its losses in nats per image.

        Returns:
            For each update [total, reconstruction, penalty], and the validation loss.
        """
        *losses, validation = self._queued.tolist()
        self._order = None
        return [losses[start : start + 3] for start in range(0, len(losses), 3)], validation

    def epoch_state(self) -> dict[str, Any] | None:
        """What a twin needs to go on within the epoch that has begun; None between two epochs."""
        if self._order is None:
            return None
        return {"steps": self._steps_done, "sums": self.step.sums, "batches": self._generator_before}

    def resume_epoch(self, epoch: int, state: dict[str, Any], batches: Generator) -> None:
        """Go on with an epoch from what `epoch_state` returned; `batches` is then where it was."""
        batches.set_state(state["batches"])
        self.begin_epoch(epoch, batches)
        self.step.sums.copy_(state["sums"])
        self._steps_done = state["steps"]

    def _train_mode(self) -> None:
        """Put the modules that the stage trains in training mode and all others in evaluation mode."""
        self._model.eval()
        for module in self.stage.trains:
            module.train()

    def close(self) -> None:
        """Restore `requires_grad` of every parameter."""
        for parameter, required in self._required:
            parameter.requires_grad_(required)


def stages_within(model: Autoencoder, epochs: int) -> tuple[Stage, ...]:
    """The stages of the model that have a fit or at least one epoch.

    Raises:
        BudgetExceeded: together they need more than `epochs`.
    """
    stages = tuple(stage for stage in model.stages(epochs) if stage.fit is not None or stage.epochs > 0)
    asked = sum(stage.epochs for stage in stages)
    if asked > epochs:
        raise BudgetExceeded(f"the stages of the model ask for {asked} epochs, the budget is {epochs}")
    return stages


def fit_in_closed_form(fit: Fit, train: Split, noise: Generator) -> None:
    """Call the `fit` of a stage on a copy of all training images, which it may change.

    Raises:
        BudgetExceeded: it takes steps of an optimiser of `torch.optim`.
    """
    steps = 0

    def count(*_: object) -> None:
        nonlocal steps
        steps += 1

    hook = register_optimizer_step_post_hook(count)
    try:
        with torch.no_grad():
            fit(train.images.clone(), noise)
    finally:
        hook.remove()
    if steps:
        raise BudgetExceeded(f"a fit in closed form has a budget of 0 optimiser steps, this one took {steps}")


@torch.no_grad()
def _mean_loss(loss: UpdateLoss, split: Split, noise: Generator) -> Tensor:
    """Total loss in nats per image in evaluation mode, a scalar on the device."""
    total = torch.zeros((), device=split.images.device)
    with fast_products(total.device):
        for x in split.batches(images_at_once_on(total.device)):
            total += loss(x, noise).total * len(x)
    return total / len(split)


def _freeze_all_but(trains: tuple[nn.Module, ...], required: list[tuple[nn.Parameter, bool]]) -> None:
    """Freeze all parameters outside `trains`."""
    trained = {id(parameter) for module in trains for parameter in module.parameters()}
    for parameter, was_required in required:
        parameter.requires_grad_(was_required and id(parameter) in trained)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters of a model, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
