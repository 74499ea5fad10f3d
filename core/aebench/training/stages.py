"""One stage of a training: only the modules it names learn, for as long as it lasts."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, ImageDataset, Split, Stage
from aebench.errors import BudgetExceeded
from aebench.training.cuda_graph import GraphedStep
from aebench.training.fast_products import fast_products
from aebench.training.records import Budget
from aebench.training.step import Step

EVALUATION_BATCH = 1000


class StageInTraining:
    """A stage while it is trained; until it is closed, the parameters of all other modules are frozen.

    Args:
        model: the whole model, in which the stage trains some modules.
        stage: what learns, from which loss.
        data: its `train` split is fitted, its `validation` split watched.
        budget: learning rate and precision.
        batch_size: images per step.
        noise: a generator on the device, all randomness inside the loss.
        graphed: record the step as a CUDA graph.
    """

    def __init__(
        self,
        model: Autoencoder,
        stage: Stage,
        data: ImageDataset,
        budget: Budget,
        batch_size: int,
        noise: Generator,
        graphed: bool,
    ) -> None:
        self.stage = stage
        self._model = model
        self._data = data
        self._batch_size = batch_size
        self._required = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        parameters = _freeze_all_but(stage.trains, self._required)
        self.step = Step(stage.loss, data.train, parameters, budget.learning_rate, budget.precision, noise)
        self._graph = GraphedStep(self.step, batch_size) if graphed else None
        self._queued = torch.zeros(0)

    @property
    def graph_fallback(self) -> str:
        return self._graph.fallback if self._graph is not None else ""

    def queue_epoch(self, batches: Generator) -> None:
        """Queue one pass over the training images, and the look at the validation images after it."""
        self.train_mode()
        self.step.sums.zero_()
        steps = len(self._data.train) // self._batch_size
        order = torch.randperm(len(self._data.train), generator=batches).to(self.step.sums.device)
        take = self._graph or self.step
        for index in order[: steps * self._batch_size].view(steps, self._batch_size):
            take(index)
        self._model.eval()
        validation = _mean_loss(self.stage, self._data.validation, self.step.noise)
        self._queued = torch.stack([*(self.step.sums / steps), validation])

    def epoch_losses(self) -> list[float]:
        """Total, reconstruction, penalty and validation loss of the epoch that was queued; waits for it."""
        losses: list[float] = self._queued.tolist()
        return losses

    def train_mode(self) -> None:
        self._model.eval()
        for module in self.stage.trains:
            module.train()

    def close(self) -> None:
        for parameter, required in self._required:
            parameter.requires_grad_(required)


def stages_within(model: Autoencoder, epochs: int) -> tuple[Stage, ...]:
    """The stages of the model that have epochs.

    Raises:
        BudgetExceeded: together they ask for more than `epochs`.
    """
    stages = tuple(stage for stage in model.stages(epochs) if stage.epochs > 0)
    asked = sum(stage.epochs for stage in stages)
    if asked > epochs:
        raise BudgetExceeded(f"the stages of the model ask for {asked} epochs, the budget is {epochs}")
    return stages


@torch.no_grad()
def _mean_loss(stage: Stage, split: Split, noise: Generator) -> Tensor:
    """Total loss per image in evaluation mode, a scalar on the device."""
    total = torch.zeros((), device=split.images.device)
    with fast_products(total.device):
        for x in split.batches(EVALUATION_BATCH):
            total += stage.loss(x, noise).total * len(x)
    return total / len(split)


def _freeze_all_but(trains: tuple[nn.Module, ...], required: list[tuple[nn.Parameter, bool]]) -> list[nn.Parameter]:
    """The parameters of `trains` that require gradients; from now on no others do."""
    trained = {id(parameter) for module in trains for parameter in module.parameters()}
    for parameter, was_required in required:
        parameter.requires_grad_(was_required and id(parameter) in trained)
    return [parameter for parameter, _ in required if parameter.requires_grad]


def parameter_count(model: nn.Module) -> int:
    """Numbers in the model that gradients could change."""
    return sum(parameter.numel() for parameter in model.parameters())
