"""The only training loop: data stay on the device as uint8, and an epoch has no host synchronisation."""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, replace
from math import isfinite
from typing import Any

import torch
from torch import Generator

from aebench.contracts import Autoencoder, ImageDataset
from aebench.errors import TrainingDiverged
from aebench.training.cuda import CudaStepRunner
from aebench.training.records import Budget, EpochLosses, TrainingResult
from aebench.training.stages import StageInTraining, parameter_count, stages_within
from aebench.training.step_runner import StepRunner


class Trainer:
    """Trains a model in place on `data.train`, one epoch at a time; the model is left in evaluation mode.

    The optimiser is Adam without weight decay. Every epoch draws a new permutation of the images and cuts it into full
    batches; the images after the last full batch are not used in that epoch. On CUDA each trainer has its own stream,
    and a step is captured once and then replayed. Other work between two epochs does not change the result.

    Args:
        model: the model to train, on the device of the data.
        data: the model is fitted to its `train` split and monitored on its `validation` split.
        budget: the epochs are divided by `model.stages`; a batch is at most the whole training split.
        batches: a CPU generator, for the order of the images.
        noise: a generator on the device, for all randomness in the loss.

    Raises:
        BudgetExceeded: the stages of the model need more epochs than the budget has.
    """

    def __init__(
        self, model: Autoencoder, data: ImageDataset, budget: Budget, batches: Generator, noise: Generator
    ) -> None:
        self._model = model
        self._data = data
        self._budget = budget
        self._batches = batches
        self._noise = noise
        self._stages = stages_within(model, budget.epochs)
        self._stage: StageInTraining | None = None
        self._losses: list[EpochLosses] = []
        self._seconds = 0.0
        self._epoch_started = 0.0
        self._runner = step_runner(data.train.images.device)
        self._is_warm = False

    @property
    def done(self) -> bool:
        """Whether all epochs of all stages have been trained."""
        return len(self._losses) == sum(stage.epochs for stage in self._stages)

    def run_epoch(self) -> EpochLosses:
        """Train for one epoch.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        self.start_epoch()
        return self.finish_epoch()

    def start_epoch(self) -> None:
        """Queue the work of the next epoch; on the CPU, run it."""
        with self._runner.context():
            if self._stage is None:
                self._begin_stage()
            assert self._stage is not None
            self._runner.synchronize()
            self._epoch_started = time.perf_counter()
            self._stage.queue_epoch(self._batches)

    def finish_epoch(self) -> EpochLosses:
        """Wait for the epoch that was started, and return its losses.

        Raises:
            TrainingDiverged: the loss is not finite.
        """
        assert self._stage is not None, "no epoch was started"
        with self._runner.context():
            losses = EpochLosses(len(self._losses) + 1, self._stage.stage.name, *self._stage.epoch_losses())
        self._seconds += time.perf_counter() - self._epoch_started
        if not all(map(isfinite, (losses.total, losses.reconstruction, losses.penalty))):
            raise TrainingDiverged(f"the training loss became {losses.total} in epoch {losses.epoch} ({losses.stage})")
        self._losses.append(losses)
        if self._position()[1] == 0:
            self._end_stage()
        return losses

    def result(self) -> TrainingResult:
        """What the training has used so far, and its learning curves."""
        steps = len(self._losses) * self._steps_per_epoch
        return TrainingResult(
            epochs=tuple(self._losses),
            seconds=self._seconds,
            images_seen=steps * self._batch_size,
            optimizer_steps=steps,
            parameters=parameter_count(self._model),
            graph_fallback=self._runner.fallback,
        )

    def state_dict(self) -> dict[str, Any]:
        """A copy of the state between two epochs, from which a new trainer with the same arguments goes on.

        It contains only tensors, numbers, strings, lists and dicts.
        """
        state = {
            "model": self._model.state_dict(),
            "optimizer": None if self._stage is None else self._stage.step.state_dict(),
            "batches": self._batches.get_state(),
            "noise": (self._noise if self._stage is None else self._stage.step.noise).get_state(),
            "losses": [asdict(losses) for losses in self._losses],
            "seconds": self._seconds,
        }
        return copy.deepcopy(state)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state that `state_dict` returned."""
        self._model.load_state_dict(state["model"])
        self._batches.set_state(state["batches"])
        self._noise.set_state(state["noise"])
        self._losses = [EpochLosses(**losses) for losses in state["losses"]]
        self._seconds = state["seconds"]
        if state["optimizer"] is not None:
            with self._runner.context():
                self._begin_stage()
                assert self._stage is not None
                self._stage.step.load_state_dict(state["optimizer"])

    @property
    def _batch_size(self) -> int:
        return min(self._budget.batch_size, len(self._data.train))

    @property
    def _steps_per_epoch(self) -> int:
        return len(self._data.train) // self._batch_size

    def _position(self) -> tuple[int, int]:
        """The index of the current stage, and the number of its epochs that are done."""
        done = len(self._losses)
        for number, stage in enumerate(self._stages):
            if done < stage.epochs:
                return number, done
            done -= stage.epochs
        return len(self._stages), 0

    def _begin_stage(self) -> None:
        if not self._is_warm:
            self._warm_up()
            self._is_warm = True
        stage = self._stages[self._position()[0]]
        self._stage = StageInTraining(
            self._model, stage, self._data, self._budget, self._batch_size, self._noise, self._runner
        )

    def _end_stage(self) -> None:
        """Restore what the stage froze, and keep what it changed."""
        assert self._stage is not None
        self._stage.close()
        self._noise = self._stage.step.noise
        self._stage = None

    def _warm_up(self) -> None:
        """Take a step of every stage on a copy, so that the first epoch does not include lazy initialisation."""
        twin, noise = copy.deepcopy(self._model), Generator(self._noise.device).manual_seed(0)
        budget = replace(self._budget, learning_rate=0.0)
        for stage in stages_within(twin, budget.epochs):
            in_training = StageInTraining(twin, stage, self._data, budget, self._batch_size, noise, self._runner)
            in_training.warm_up()
            in_training.close()


def step_runner(device: torch.device) -> StepRunner:
    """Runs the steps of one training on this device."""
    return CudaStepRunner(device) if device.type == "cuda" else StepRunner()
