"""The one training loop: data lives on the device as uint8, and nothing is synchronised inside an epoch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, ImageDataset, Loss, SelfFitting, Split, Stage
from aebench.contracts.models import StageLoss
from aebench.errors import TrainingDiverged, one_line
from aebench.training.steps import CapturedStep, Step, no_waiting
from aebench.training.turns import Turns, at_once, on_own_stream

EVALUATION_BATCH = 1000
STEPS_PER_TURN = 16


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
    """What a training was like.

    Attributes:
        epochs: the curves; empty for a model that fits itself.
        seconds: of the fit alone, by the clock on the wall: warm, synchronised, without data loading. Trainings that
            run at once share cores or device, and each takes longer than it would alone.
        why_not_recorded: what kept steps from being recorded as CUDA graphs; empty where nothing did, and on the CPU.
    """

    epochs: tuple[EpochLosses, ...]
    seconds: float
    why_not_recorded: str = ""


def fit_in_turns(
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
) -> Turns[TrainingResult]:
    """Train `model` in place on `data.train`; model and data are on the same device.

    Adam without weight decay. Every epoch draws a new permutation of the images and cuts it into full batches; the
    few left over at its end wait for another epoch. On CUDA a step is captured once and replayed from then on. A
    training gives the same result whatever is done between its turns.

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
        turns = _fit_itself(model, data.train, noise)
    else:
        in_precision = _in_precision(precision, data.train.images.device)
        batch_size = min(batch_size, len(data.train))
        turns = _fit_stages(model, epochs, in_precision, data, batch_size, learning_rate, batches, noise, on_epoch)
    return on_own_stream(data.train.images.device, turns)


fit = at_once(fit_in_turns)


def _fit_itself(model: Autoencoder, train: Split, noise: Generator) -> Turns[TrainingResult]:
    assert isinstance(model, SelfFitting)
    yield  # others queue their work first: a fit cannot be interrupted
    started = _clock(train.images.device)
    model.fit(train.images, noise)
    seconds = _clock(train.images.device) - started
    model.eval()
    return TrainingResult((), seconds)


def _fit_stages(
    model: Autoencoder,
    epochs: int,
    in_precision: Callable[[StageLoss], StageLoss],
    data: ImageDataset,
    batch_size: int,
    learning_rate: float,
    batches: Generator,
    noise: Generator,
    on_epoch: Callable[[EpochLosses], None],
) -> Turns[TrainingResult]:
    device = data.train.images.device
    steps = len(data.train) // batch_size
    why_not_recorded = _warm_up(copy.deepcopy(model), epochs, data.train, batch_size, in_precision)
    started = _clock(device)
    curves: list[EpochLosses] = []
    for stage in _stages(model, epochs):
        with _only(model, stage.trains) as parameters:
            step = Step(in_precision(stage.loss), data.train, parameters, learning_rate, noise)
            captured = CapturedStep(step, batch_size) if device.type == "cuda" and not why_not_recorded else None
            take = captured or step
            for _ in range(stage.epochs):
                _set_training(model, stage.trains)
                step.sums.zero_()
                order = torch.randperm(len(data.train), generator=batches).to(device)
                for number, index in enumerate(order[: steps * batch_size].view(steps, batch_size), start=1):
                    take(index)
                    if number % STEPS_PER_TURN == 0:
                        yield
                model.eval()
                validation = _mean_loss(stage, data.validation, step.noise)
                queued = torch.stack([*(step.sums / steps), validation])
                yield  # others queue their work before this one waits for its own
                losses = EpochLosses(len(curves) + 1, stage.name, *queued.tolist())
                if not all(map(isfinite, (losses.total, losses.reconstruction, losses.penalty))):
                    raise TrainingDiverged(
                        f"the training loss became {losses.total} in epoch {losses.epoch} ({stage.name})"
                    )
                curves.append(losses)
                on_epoch(losses)
            noise = step.noise
            if captured:
                why_not_recorded = captured.why_not
    return TrainingResult(tuple(curves), _clock(device) - started, why_not_recorded)


def _stages(model: Autoencoder, epochs: int) -> list[Stage]:
    return [stage for stage in model.stages(epochs) if stage.epochs > 0]


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


@torch.no_grad()
def _mean_loss(stage: Stage, split: Split, noise: Generator) -> Tensor:
    """Total loss per image in evaluation mode, a scalar on the device."""
    total = torch.zeros((), device=split.images.device)
    for x in split.batches(EVALUATION_BATCH):
        total += stage.loss(x, noise).total * len(x)
    return total / len(split)


def _warm_up(
    twin: Autoencoder,
    epochs: int,
    train: Split,
    batch_size: int,
    in_precision: Callable[[StageLoss], StageLoss],
) -> str:
    """One step of every stage, so that the first epoch does not pay for lazy initialisation.

    Args:
        twin: a throw-away copy of the model.
        epochs, train, batch_size, in_precision: as it will be trained.

    Returns:
        On CUDA, why a step cannot be recorded; empty if it might. It is better known before a recording than from its
        failure, after which PyTorch before 2.12 does not clean up.
    """
    device = train.images.device
    noise, index = Generator(device).manual_seed(0), torch.arange(batch_size, device=device)
    why_not = ""
    for stage in _stages(twin, epochs):
        _set_training(twin, stage.trains)
        with _only(twin, stage.trains) as parameters:
            step = Step(in_precision(stage.loss), train, parameters, 0.0, noise)
            step(index)
            if device.type == "cuda" and not why_not:
                try:
                    with no_waiting():
                        step(index)
                except RuntimeError as error:
                    if "synchronizing" not in str(error):
                        raise
                    why_not = one_line(error)
    return why_not


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
    """Now, when all that this training has queued is done."""
    if device.type == "cuda":
        torch.cuda.current_stream(device).synchronize()
    return time.perf_counter()
