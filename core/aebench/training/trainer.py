"""The only training loop: data stay on the device as uint8, and an epoch has no host synchronisation.

It runs in turns, so that a training can be interrupted, saved and continued in the middle of an epoch.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass
from math import inf, isfinite
from typing import Any

import torch
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, ImageDataset, Stage
from aebench.errors import TrainingDiverged
from aebench.training.cuda import CudaStepRunner
from aebench.training.records import Budget, EpochLosses, TrainingResult
from aebench.training.stages import StageInTraining, fit_in_closed_form, parameter_count, stages_within
from aebench.training.step_runner import StepRunner

TURN_SECONDS = 1.0


@dataclass(frozen=True)
class _Best:
    """The weights with the lowest validation loss of a stage, and the epoch after which they were taken."""

    validation: float
    epoch: int
    weights: dict[str, Any]


class Trainer:
    """Trains a model in place on `data.train`, in turns; after its last epoch, the model is in evaluation mode.

    Every epoch draws a new permutation of the images and cuts it into full batches; the images after the last full
    batch are not used in that epoch. On the CPU a turn takes steps for about `turn_seconds`, or to the end of the
    epoch; on CUDA it is a whole epoch. A stage that is fitted in closed form takes one turn. On CUDA each trainer has
    its own stream, and a step is captured once and then replayed. Neither where turns end nor other work between them
    changes the result.

    Args:
        model: the model to train, on the device of the data.
        data: the model is fitted to its `train` split and monitored on its `validation` split.
        budget: the epochs are divided by `model.stages`; a batch is at most the whole training split.
        batches: a CPU generator, for the order of the images.
        noise: a generator on the device, for all randomness in losses and fits.
        turn_seconds: a turn on the CPU takes no further step after this time; it takes at least one.

    Raises:
        BudgetExceeded: the stages of the model need more epochs than the budget has.
    """

    def __init__(
        self,
        model: Autoencoder,
        data: ImageDataset,
        budget: Budget,
        batches: Generator,
        noise: Generator,
        turn_seconds: float = TURN_SECONDS,
    ) -> None:
        self._model = model
        self._data = data
        self._budget = budget
        self._batches = batches
        self._noise = noise
        self._stages = stages_within(model, budget.epochs)
        self._position = 0, 0  # index of the stage, and the number of its epochs that are done
        self._in_training: StageInTraining | None = None
        self._ends_epoch = False  # whether the turn that was started is the last one of its epoch
        self._best: _Best | None = None  # of the current stage, with early stopping
        self._losses: list[EpochLosses] = []
        self._seconds, self._started = 0.0, 0.0
        self._images_seen, self._optimizer_steps = 0, 0
        self._runner = step_runner(data.train.images.device)
        self._turn_seconds = inf if self._runner.only_queues else turn_seconds
        self._is_warm = False

    @property
    def done(self) -> bool:
        """Whether all stages have been trained."""
        return self._position[0] == len(self._stages)

    @property
    def epochs_done(self) -> int:
        """Epochs that are complete, across all stages."""
        return len(self._losses)

    def run_epoch(self) -> EpochLosses | None:
        """Run turns to the end of an epoch or of a fit in closed form; for results and errors see `finish_turn`."""
        position, losses = self._position, None
        while self._position == position:
            self.start_turn()
            losses = self.finish_turn()
        return losses

    def start_turn(self) -> None:
        """Queue the work of the next turn; on the CPU, run it."""
        number, epoch = self._position
        stage = self._stages[number]
        with self._runner.context():
            if stage.fit is None and self._in_training is None:
                self._in_training = self._begin(stage)
            self._runner.synchronize()
            self._started = time.perf_counter()
            if self._in_training is not None:
                if not self._in_training.in_epoch:
                    before = sum(stage.epochs for stage in self._stages[:number])
                    self._model.on_epoch(before + epoch, sum(stage.epochs for stage in self._stages))
                    self._in_training.begin_epoch(epoch, self._batches)
                self._ends_epoch = self._in_training.queue_steps(self._turn_seconds)

    def finish_turn(self) -> EpochLosses | None:
        """Wait for the turn that was started; or fit a stage in closed form.

        Returns:
            The losses of the epoch that ended with this turn; None if none did.

        Raises:
            TrainingDiverged: a loss is not finite.
            BudgetExceeded: a fit in closed form takes optimiser steps.
        """
        number, epoch = self._position
        stage, losses = self._stages[number], None
        with self._runner.context():
            if stage.fit is not None:
                self._started = time.perf_counter()  # other work may have run since `start_turn`
                self._model.eval()
                fit_in_closed_form(stage.fit, self._data.train, self._noise)
                self._model.eval()
                self._runner.synchronize()
                self._images_seen += len(self._data.train)
            elif self._ends_epoch:
                losses = self._finish_epoch(stage)
            self._seconds += time.perf_counter() - self._started
            if stage.fit is None and losses is None:
                return None
            stops_early = self._stops_early(losses)
            if epoch + 1 < stage.epochs and not stops_early:
                self._position = number, epoch + 1
            else:
                self._position = number + 1, 0
                self._end_stage()
        return losses

    def _stops_early(self, losses: EpochLosses | None) -> bool:
        """Whether the validation loss has not fallen for `patience` epochs; remembers the best weights."""
        if losses is None or self._budget.patience is None or self._changes_its_loss:
            return False
        if self._best is None or losses.validation < self._best.validation:
            self._best = _Best(losses.validation, losses.epoch, copy.deepcopy(self._model.state_dict()))
        return losses.epoch - self._best.epoch >= self._budget.patience

    @property
    def _changes_its_loss(self) -> bool:
        """Whether the model may change its loss from epoch to epoch, so that losses cannot be compared."""
        return type(self._model).on_epoch is not Autoencoder.on_epoch

    def _finish_epoch(self, stage: Stage) -> EpochLosses:
        """Wait for the epoch that was queued, and check its losses."""
        assert self._in_training is not None, "no turn was started"
        by_update, validation = self._in_training.epoch_losses()
        judged = [] if self._budget.patience is None else [[validation]]
        total, reconstruction, penalty = by_update[0]
        losses = EpochLosses(len(self._losses) + 1, stage.name, total, reconstruction, penalty, validation)
        for number, parts in enumerate([*by_update, *judged], start=1):
            for part in parts:
                if not isfinite(part):
                    which = f", update {number}" if 1 < len(by_update) >= number else ""
                    kind = "training" if number <= len(by_update) else "validation"
                    raise TrainingDiverged(
                        f"the {kind} loss became {part} in epoch {losses.epoch} ({stage.name}{which})"
                    )
        self._losses.append(losses)
        self._images_seen += self._steps_per_epoch * self._batch_size
        self._optimizer_steps += self._steps_per_epoch * len(stage.updates)
        return losses

    def result(self) -> TrainingResult:
        """What the training has used so far, and its learning curves."""
        return TrainingResult(
            epochs=tuple(self._losses),
            seconds=self._seconds,
            images_seen=self._images_seen,
            optimizer_steps=self._optimizer_steps,
            parameters=parameter_count(self._model),
            graph_fallback=self._runner.fallback,
        )

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state between two turns, from which a new trainer with the same arguments goes on.

        It contains only tensors, numbers, strings, lists and dicts.
        """
        self._runner.synchronize()
        state = {
            "model": self._model.state_dict(),
            "other buffers": _buffers_outside_state(self._model),
            "optimizers": None if self._in_training is None else self._in_training.step.state_dict(),
            "epoch": None if self._in_training is None else self._in_training.epoch_state(),
            "batches": self._batches.get_state(),
            "noise": (self._noise if self._in_training is None else self._in_training.step.noise).get_state(),
            "best": None if self._best is None else asdict(self._best),
            "position": list(self._position),
            "losses": [asdict(losses) for losses in self._losses],
            "seconds": self._seconds,
            "images_seen": self._images_seen,
            "optimizer_steps": self._optimizer_steps,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned; after an error the trainer cannot be used."""
        with self._runner.context():
            self._model.load_state_dict(state["model"])
            for name, buffer in _buffers_outside_state(self._model).items():
                buffer.copy_(state["other buffers"][name])
        self._batches.set_state(state["batches"])
        self._noise.set_state(state["noise"])
        number, epoch = state["position"]
        self._position = number, epoch
        self._best = None if state["best"] is None else _Best(**state["best"])
        self._losses = [EpochLosses(**losses) for losses in state["losses"]]
        self._seconds = state["seconds"]
        self._images_seen, self._optimizer_steps = state["images_seen"], state["optimizer_steps"]
        if state["optimizers"] is not None:
            with self._runner.context():
                self._in_training = self._begin(self._stages[number])
                self._in_training.step.load_state_dict(state["optimizers"])
                if state["epoch"] is not None:
                    self._in_training.resume_epoch(epoch, state["epoch"], self._batches)

    @property
    def _batch_size(self) -> int:
        return min(self._budget.batch_size, len(self._data.train))

    @property
    def _steps_per_epoch(self) -> int:
        return len(self._data.train) // self._batch_size

    def _begin(self, stage: Stage) -> StageInTraining:
        if not self._is_warm:
            self._warm_up()
            self._is_warm = True
        return StageInTraining(
            self._model, stage, self._data, self._budget, self._batch_size, self._noise, self._runner
        )

    def _end_stage(self) -> None:
        """Restore what the stage froze, and keep what it changed, or the best of it."""
        if self._best is not None:
            self._model.load_state_dict(self._best.weights)
            self._best = None
        if self._in_training is not None:
            self._in_training.close()
            self._noise = self._in_training.step.noise
            self._in_training = None

    def _warm_up(self) -> None:
        """Take a step of every stage on a copy, so that the first epoch does not include lazy initialisation."""
        twin, noise = copy.deepcopy(self._model), Generator(self._noise.device).manual_seed(0)
        for stage in stages_within(twin, self._budget.epochs):
            if stage.updates:
                warming = StageInTraining(twin, stage, self._data, self._budget, self._batch_size, noise, self._runner)
                warming.warm_up()
                warming.close()


def _buffers_outside_state(model: Autoencoder) -> dict[str, Tensor]:
    """The buffers that are not in the model's state dict, by name: a schedule may be in one of them."""
    saved = model.state_dict().keys()
    return {name: buffer for name, buffer in model.named_buffers() if name not in saved}


def step_runner(device: torch.device) -> StepRunner:
    """Runs the steps of one training on this device."""
    return CudaStepRunner(device) if device.type == "cuda" else StepRunner()
