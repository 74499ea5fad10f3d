"""One stage of a training: it trains the modules that it names and freezes all others."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, ImageDataset, Split, Stage
from aebench.errors import BudgetExceeded
from aebench.training.fast_products import fast_products
from aebench.training.records import Budget
from aebench.training.step import Step
from aebench.training.step_runner import StepRunner

EVALUATION_BATCH = 1000


class StageInTraining:
    """A stage while it is trained; until it is closed, the parameters of all other modules are frozen.

    Args:
        model: the whole model.
        stage: the modules to train, and their loss.
        data: the model is fitted to its `train` split and monitored on its `validation` split.
        budget: learning rate and precision.
        batch_size: images per step.
        noise: a generator on the device, for all randomness in the loss.
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
        parameters = _freeze_all_but(stage.trains, self._required)
        self.step = Step(stage.loss, data.train, parameters, budget.learning_rate, budget.precision, noise)
        self._runner = runner
        self._take: Callable[[Tensor], None] | None = None
        self._queued = torch.zeros(0)

    def warm_up(self) -> None:
        """Take a step whose result does not matter."""
        self._train_mode()
        self._runner.warm_up(self.step, torch.arange(self._batch_size, device=self.step.sums.device))

    def queue_epoch(self, batches: Generator) -> None:
        """Queue one pass over the training images, then the loss on the validation images.

        `batches` is a CPU generator that decides the order of the images.
        """
        self._train_mode()
        self.step.sums.zero_()
        steps = len(self._data.train) // self._batch_size
        order = torch.randperm(len(self._data.train), generator=batches).to(self.step.sums.device)
        if self._take is None:
            self._take = self._runner.prepare(self.step, self._batch_size)
        for index in order[: steps * self._batch_size].view(steps, self._batch_size):
            self._take(index)
        self._model.eval()
        validation = _mean_loss(self.stage, self._data.validation, self.step.noise)
        self._queued = torch.stack([*(self.step.sums / steps), validation])

    def epoch_losses(self) -> list[float]:
        """Wait for the queued epoch; total, reconstruction, penalty and validation loss, in nats per image."""
        losses: list[float] = self._queued.tolist()
        return losses

    def _train_mode(self) -> None:
        """Put the modules of the stage in training mode and all others in evaluation mode."""
        self._model.eval()
        for module in self.stage.trains:
            module.train()

    def close(self) -> None:
        """Restore `requires_grad` of every parameter."""
        for parameter, required in self._required:
            parameter.requires_grad_(required)


def stages_within(model: Autoencoder, epochs: int) -> tuple[Stage, ...]:
    """The stages of the model that have at least one epoch.

    Raises:
        BudgetExceeded: together they need more than `epochs`.
    """
    stages = tuple(stage for stage in model.stages(epochs) if stage.epochs > 0)
    asked = sum(stage.epochs for stage in stages)
    if asked > epochs:
        raise BudgetExceeded(f"the stages of the model ask for {asked} epochs, the budget is {epochs}")
    return stages


@torch.no_grad()
def _mean_loss(stage: Stage, split: Split, noise: Generator) -> Tensor:
    """Total loss in nats per image in evaluation mode, a scalar on the device."""
    total = torch.zeros((), device=split.images.device)
    with fast_products(total.device):
        for x in split.batches(EVALUATION_BATCH):
            total += stage.loss(x, noise).total * len(x)
    return total / len(split)


def _freeze_all_but(trains: tuple[nn.Module, ...], required: list[tuple[nn.Parameter, bool]]) -> list[nn.Parameter]:
    """Freeze all parameters outside `trains`; return those in `trains` that require gradients."""
    trained = {id(parameter) for module in trains for parameter in module.parameters()}
    for parameter, was_required in required:
        parameter.requires_grad_(was_required and id(parameter) in trained)
    return [parameter for parameter, _ in required if parameter.requires_grad]


def parameter_count(model: nn.Module) -> int:
    """Number of parameters of a model, frozen ones included."""
    return sum(parameter.numel() for parameter in model.parameters())
