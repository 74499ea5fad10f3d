"""Trainings of vanilla on MNIST as the runner does them: through the executor, as many at once as suits the device."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import torch

from aebench.datasets import load_dataset
from aebench.execution import Crew, LocalExecutor
from aebench.execution.work import Message, Postponed, Trained, Unit
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.planning.seeds import splits_seed
from aebench.planning.specs import TrainingSpec
from aebench.registry.records import Registry


class Runner:
    def __init__(self, registry: Registry, data_dir: Path, device: str) -> None:
        self.registry = registry
        self._device = torch.device(device)
        record = registry.dataset("mnist").record
        self.data = load_dataset(record, record.params(), data_dir, splits_seed(42))

    def trainings(self, seeds: int, epochs: int, precision: str = "fp32") -> tuple[TrainingSpec, ...]:
        config = {
            ("dataset",): "mnist",
            ("models",): ["vanilla"],
            ("tasks",): ["reconstruction"],
            ("seeds",): seeds,
            ("training", "epochs"): epochs,
        }
        return plan(load_benchmark(self.registry, None, config), self.data.info, precision).trainings

    def seconds(self, seeds: int, epochs: int, precision: str = "fp32") -> list[float]:
        """What each of these trainings took by its own clock, without start-up, beside the others."""
        messages = self._run(seeds, epochs, precision)
        return [message.result.seconds for message in messages if isinstance(message, Trained)]

    def seconds_for_all(self, seeds: int, epochs: int) -> float:
        """From the moment when the first of these trainings is warm to that when the last is done."""
        starts, ends = [], []
        for message in self._run(seeds, epochs, "fp32"):
            if isinstance(message, Trained):
                ends.append(time.perf_counter())
                starts.append(ends[-1] - message.result.seconds)
        return max(ends) - min(starts)

    def _run(self, seeds: int, epochs: int, precision: str) -> Iterator[Message]:
        units = [Unit(training, ()) for training in self.trainings(seeds, epochs, precision)]
        trained = 0
        for message in LocalExecutor(self.registry, self._device, Crew.suited_to(self._device)).run(
            units, self.data, reference_classifier=None
        ):
            if isinstance(message, Postponed):
                raise RuntimeError(f"a training failed beside others: {message.reason}")
            trained += isinstance(message, Trained)
            yield message
        if trained < seeds:
            raise RuntimeError(f"{seeds - trained} of {seeds} trainings failed")
