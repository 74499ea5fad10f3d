"""Trainings of vanilla on MNIST as the runner does them: through the executor, as many at once as suits the device."""

from __future__ import annotations

from pathlib import Path

import torch

from aebench.config import load_benchmark
from aebench.datasets import load_dataset
from aebench.executors import Crew, LocalExecutor
from aebench.jobs import Training
from aebench.planner import plan
from aebench.registry import Registry
from aebench.work import Trained, Unit


class Runner:
    def __init__(self, registry: Registry, data_dir: Path, device: str) -> None:
        self.registry = registry
        self._device = torch.device(device)
        record = registry.dataset("mnist").record
        self.data = load_dataset(record, record.params(), data_dir, 42)

    def trainings(self, seeds: int, epochs: int, precision: str = "fp32") -> tuple[Training, ...]:
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
        units = [Unit(training, ()) for training in self.trainings(seeds, epochs, precision)]
        executor = LocalExecutor(self.registry, self._device, Crew.suited_to(self._device))
        messages = executor.run(units, self.data, judge=None)
        seconds = [message.result.seconds for message in messages if isinstance(message, Trained)]
        if len(seconds) < seeds:
            raise RuntimeError(f"{seeds - len(seconds)} of {seeds} trainings failed")
        return seconds
