"""Trainings and evaluations on MNIST as `aebench run` does them: by the scheduler and the local engine."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import torch

from aebench.contracts import Autoencoder
from aebench.datasets import load_dataset
from aebench.execution.allocation import allocate
from aebench.execution.artifacts import FolderStore, Ref
from aebench.execution.background import in_background
from aebench.execution.events import Failed, RetryScheduled, Succeeded
from aebench.execution.jobs import DATA, Job, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import WorkerConfig
from aebench.planning.benchmark import load_benchmark
from aebench.planning.cells import CellResult
from aebench.planning.planner import Plan, plan
from aebench.planning.seeds import splits_seed
from aebench.planning.specs import EvaluationSpec
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
        return [result.seconds for result in self._trainings(seeds, epochs, precision)]

    def seconds_for_all(self, seeds: int, epochs: int) -> float:
        """Seconds from the end of the first warm-up to the end of the last of these trainings."""
        starts, ends = [], []
        for result in self._trainings(seeds, epochs, "fp32"):
            ends.append(time.perf_counter())
            starts.append(ends[-1] - result.seconds)
        return max(ends) - min(starts)

    def evaluate(self, cells: Sequence[EvaluationSpec]) -> Iterator[tuple[EvaluationSpec, CellResult]]:
        """Train and evaluate these cells, one after another in one worker; the result of each."""
        tasks = frozenset(cell.task for cell in cells)
        for spec, result in self._run(lambda data: build_jobs(cells, {DATA: data}, {}, tasks, None), tasks, workers=1):
            if isinstance(spec, EvaluationSpec) and isinstance(result, CellResult):
                yield spec, result

    def _trainings(self, seeds: int, epochs: int, precision: str) -> Iterator[TrainingResult]:
        trainings = self.plan(seeds, epochs, precision).trainings
        for _, result in self._run(lambda data: [Job(spec.hash, spec, {DATA: data}) for spec in trainings]):
            assert isinstance(result, TrainingResult)
            yield result

    def _run(
        self,
        jobs_with: Callable[[Ref], list[Job]],
        slow_tasks: frozenset[str] = frozenset(),
        workers: int | None = None,
    ) -> Iterator[tuple[object, TrainingResult | CellResult | None]]:
        """The spec and the result of each job, as the jobs end; the jobs get the data."""
        with tempfile.TemporaryDirectory() as folder:
            artifacts = FolderStore(Path(folder))
            data = artifacts.put_written(self.data.save)
            jobs = jobs_with(data)
            specs = {job.id: job.spec for job in jobs}
            config = WorkerConfig(artifacts.folder, data, str(self._device), self.registry.broken)
            executor = LocalExecutor(config, allocate(self._device, slow_tasks, workers))
            with closing(in_background(lambda stop: Scheduler(jobs, executor, stop).run())) as events:
                for event in events:
                    if isinstance(event, Failed | RetryScheduled):
                        raise RuntimeError(f"a job failed: {event}")
                    if isinstance(event, Succeeded):
                        yield specs[event.job_id], event.result
