"""The one training loop: data lives on the device as uint8, and nothing is synchronised inside an epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, ImageDataset, Loss, SelfFitting, Split, Stage
from aebench.contracts.autoencoder import StageLoss
from aebench.errors import TrainingDiverged

EVALUATION_BATCH = 1000


@dataclass(frozen=True)
class EpochLosses:
    """Mean losses of one epoch in nats per image; `epoch` counts from 1 across all stages.

    `total`, `reconstruction` and `penalty` are means over the epoch's batches, in training mode; `validation` is the
    total loss on the validation split after the epoch, in evaluation mode.
    """

    epoch: int
    stage: str
    total: float
    reconstruction: float
    penalty: float
    validation: float


@dataclass(frozen=True)
class TrainingResult:
    """Curves, and the wall-clock seconds of the fit alone: warm, synchronised, without data loading."""

    epochs: tuple[EpochLosses, ...]
    seconds: float


def fit(
    model: Autoencoder,
    data: ImageDataset,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    batches: Generator,
    noise: Generator,
    precision: str = "fp32",
    on_epoch: Callable[[EpochLosses], None] = lambda losses: None,
) -> TrainingResult:
    """Train `model` in place on `data.train`; model and data are on the same device.

    Adam without weight decay. Every epoch draws a new permutation of the images and cuts it into full batches; the
    few left over at its end wait for another epoch.

    Args:
        model: to be trained; left in evaluation mode.
        data: its `train` split is fitted, its `validation` split watched.
        epochs: the budget, which `model.stages` divides.
        batch_size: images per step; all of them when there are fewer.
        learning_rate: Adam's.
        batches: a CPU generator, the order of the images.
        noise: a generator on the device, all randomness inside the loss.
        precision: "fp32", or "bf16" for matrix products in bfloat16; weights, losses and Adam stay float32.
        on_epoch: called after every epoch.

    Raises:
        TrainingDiverged: an epoch's loss was not finite.
    """
    if isinstance(model, SelfFitting):
        started = _clock(data.train.images.device)
        model.fit(data.train.images, noise)
        seconds = _clock(data.train.images.device) - started
        model.eval()
        return TrainingResult((), seconds)

    batch_size = min(batch_size, len(data.train))
    in_precision = _in_precision(precision, data.train.images.device)
    stages = [replace(stage, loss=in_precision(stage.loss)) for stage in model.stages(epochs) if stage.epochs > 0]
    _warm_up(model, data.train, batch_size, in_precision)
    started = _clock(data.train.images.device)
    curves: list[EpochLosses] = []
    for stage in stages:
        with _only(model, stage.trains) as parameters:
            optimizer = torch.optim.Adam(parameters, lr=learning_rate, fused=True)
            for _ in range(stage.epochs):
                _set_training(model, stage.trains)
                sums = _train_one_epoch(stage, data.train, batch_size, optimizer, batches, noise)
                model.eval()
                validation = _mean_loss(stage, data.validation, noise)
                total, reconstruction, penalty, watched = torch.stack([*sums, validation]).tolist()
                losses = EpochLosses(len(curves) + 1, stage.name, total, reconstruction, penalty, watched)
                if not torch.isfinite(sums).all():
                    raise TrainingDiverged(f"the training loss became {total} in epoch {losses.epoch} ({stage.name})")
                curves.append(losses)
                on_epoch(losses)
    return TrainingResult(tuple(curves), _clock(data.train.images.device) - started)


def _in_precision(precision: str, device: torch.device) -> Callable[[StageLoss], StageLoss]:
    """A loss -> the same loss, computed in this precision."""
    if precision == "fp32":
        return lambda loss: loss

    def lower(loss: StageLoss) -> StageLoss:
        def lowered(x: Tensor, generator: Generator) -> Loss:
            with torch.autocast(device.type, torch.bfloat16):
                return loss(x, generator)

        return lowered

    return lower


def _train_one_epoch(
    stage: Stage,
    train: Split,
    batch_size: int,
    optimizer: torch.optim.Optimizer,
    batches: Generator,
    noise: Generator,
) -> Tensor:
    """Mean (total, reconstruction, penalty) over the epoch's batches, still on the device."""
    steps = len(train) // batch_size
    order = torch.randperm(len(train), generator=batches).to(train.images.device)
    sums = torch.zeros(3, device=train.images.device)
    for index in order[: steps * batch_size].view(steps, batch_size):
        loss = stage.loss(train.x(index), noise)
        optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        optimizer.step()
        sums += _parts(loss)
    return sums / steps


@torch.no_grad()
def _mean_loss(stage: Stage, split: Split, noise: Generator) -> Tensor:
    """Total loss per image in evaluation mode, a scalar on the device."""
    total = torch.zeros((), device=split.images.device)
    for x in split.batches(EVALUATION_BATCH):
        total += stage.loss(x, noise).total * len(x)
    return total / len(split)


def _parts(loss: Loss) -> Tensor:
    return torch.stack([loss.total.detach(), loss.reconstruction.detach(), loss.penalty.detach()])


def _warm_up(model: Autoencoder, train: Split, batch_size: int, in_precision: Callable[[StageLoss], StageLoss]) -> None:
    """One step of a throw-away copy, so that the first epoch does not pay for lazy initialisation."""
    twin = copy.deepcopy(model).train()
    device = train.images.device
    in_precision(twin.loss)(train.x(slice(batch_size)), Generator(device).manual_seed(0)).total.backward()
    torch.optim.Adam(twin.parameters(), fused=True).step()


def _set_training(model: Autoencoder, trains: tuple[nn.Module, ...]) -> None:
    model.eval()
    for module in trains:
        module.train()


class _only:
    """Inside, only the parameters of `trains` require gradients; afterwards each has its own setting back."""

    def __init__(self, model: nn.Module, trains: tuple[nn.Module, ...]) -> None:
        self._before = [(parameter, parameter.requires_grad) for parameter in model.parameters()]
        self._trained = {id(parameter) for module in trains for parameter in module.parameters()}

    def __enter__(self) -> list[nn.Parameter]:
        for parameter, required in self._before:
            parameter.requires_grad_(required and id(parameter) in self._trained)
        return [parameter for parameter, _ in self._before if parameter.requires_grad]

    def __exit__(self, *_: object) -> None:
        for parameter, required in self._before:
            parameter.requires_grad_(required)


def _clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()
