"""Trainings of vanilla on MNIST as `aebench run` does them: by the scheduler and the local engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, TypeGuard

import torch

from aebench.contracts import Autoencoder
from aebench.datasets import load_dataset
from aebench.execution.allocation import allocate
from aebench.execution.artifacts import FolderStore
from aebench.execution.background import in_background
from aebench.execution.events import Draining, Event, Failed, RetryScheduled, Succeeded
from aebench.execution.jobs import DATA, Job
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import WorkerConfig
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import Plan, plan
from aebench.planning.seeds import splits_seed
from aebench.registry.records import Registry
from aebench.training.building import build_model
from aebench.training.records import TrainingResult


class Runner:
    """Trains vanilla on MNIST, and builds other models for it.

    Args:
        registry: the plugins.
        data_dir: the folder that holds MNIST.
        device: where to train.
    """

    def __init__(self, registry: Registry, data_dir: Path, device: str) -> None:
        self.registry = registry
        self._device = torch.device(device)
        record = registry.dataset("mnist").record
        self.data = load_dataset(record, record.params(), data_dir, splits_seed(42))

    def plan(
        self,
        seeds: int,
        epochs: int,
        precision: str = "fp32",
        model: str = "vanilla",
        task: str | dict[str, Any] = "reconstruction",
    ) -> Plan:
        """One training and one cell for each seed."""
        config = {
            ("dataset",): "mnist",
            ("models",): [model],
            ("tasks",): [task],
            ("seeds",): seeds,
            ("training", "epochs"): epochs,
        }
        benchmark = load_benchmark(self.registry, None, config)
        return plan(benchmark, self.data.info, precision, self._device.type)

    def model(self, name: str = "vanilla") -> Autoencoder:
        """A model with its initial weights."""
        (spec,) = self.plan(1, 1, model=name).trainings
        return build_model(self.registry, spec, self.data.info.input_shape)

    def seconds(self, seeds: int, epochs: int, precision: str = "fp32") -> list[float]:
        """Seconds that each of these concurrent trainings takes by its own clock, without start-up."""
        return [result.seconds for result in self._results(seeds, epochs, precision)]

    def seconds_for_all(self, seeds: int, epochs: int) -> float:
        """Seconds from the end of the first warm-up to the end of the last of these trainings."""
        starts, ends = [], []
        for result in self._results(seeds, epochs, "fp32"):
            ends.append(time.perf_counter())
            starts.append(ends[-1] - result.seconds)
        return max(ends) - min(starts)

    def _results(self, seeds: int, epochs: int, precision: str) -> Iterator[TrainingResult]:
        with tempfile.TemporaryDirectory() as folder:
            artifacts = FolderStore(Path(folder))
            data = artifacts.put_written(self.data.save)
            jobs = [Job(spec.hash, spec, {DATA: data}) for spec in self.plan(seeds, epochs, precision).trainings]
            config = WorkerConfig(artifacts.folder, data, str(self._device), self.registry.broken)
            executor = LocalExecutor(config, allocate(self._device, frozenset()))
            with closing(in_background(lambda stop: Scheduler(jobs, executor, stop).run())) as events:
                yield from map(_result, filter(_is_end, events))


def _is_end(event: Event | Draining) -> TypeGuard[Event]:
    return isinstance(event, Succeeded | Failed | RetryScheduled)


def _result(event: Event) -> TrainingResult:
    if isinstance(event, Succeeded) and isinstance(event.result, TrainingResult):
        return event.result
    raise RuntimeError(f"a training failed: {event}")
