"""Runs a benchmark: data -> plan -> what is still to do -> scheduler -> store."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from aebench.contracts import Autoencoder, ImageDataset
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import obtain_reference_classifier, save_reference_classifier
from aebench.execution.allocation import allocate
from aebench.execution.artifacts import FolderStore
from aebench.execution.background import in_background
from aebench.execution.devices import choose_device, choose_precision
from aebench.execution.events import Event, Failed, Progress, RetryScheduled, Started, Succeeded
from aebench.execution.job_output import OUTPUT
from aebench.execution.jobs import DATA, REFERENCE_CLASSIFIER, WEIGHTS, Job, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.memory import GIGABYTE
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import WorkerConfig
from aebench.planning.benchmark import Benchmark
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan, plan
from aebench.planning.provenance import reference_classifier_provenance
from aebench.planning.seeds import splits_seed
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.report.observer import RunObserver
from aebench.training.building import build_model
from aebench.training.records import TrainingResult

if TYPE_CHECKING:
    from aebench.results.matrix import MatrixResults
    from aebench.tracking.schema import StoredCell
    from aebench.tracking.store import Store
    from aebench.tracking.writer import MatrixRun


@dataclass(frozen=True)
class RunOptions:
    """How to run. No option changes a result, except `device`: each kind of device has its own results.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        jobs: concurrent trainings; None for the default of the device, see `allocate`.
        data_dir: where data sets are kept.
        tracking_uri: None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: None for "aebench-<dataset>".
        fresh: run every cell again, also those in the store.
        cell_timeout: seconds that an evaluation, or one epoch of a training, may take.
        worker_memory: GB that a worker process may use; None for an equal share of the machine's memory.
    """

    device: str
    jobs: int | None
    data_dir: Path
    tracking_uri: str | None
    experiment: str | None
    fresh: bool
    cell_timeout: float
    worker_memory: float | None = None

    @property
    def worker_bytes(self) -> int | None:
        """`worker_memory` in bytes."""
        return None if self.worker_memory is None else round(self.worker_memory * GIGABYTE)


@dataclass(frozen=True)
class RunSummary:
    """What a run did: trainings done, cells run by status, cells reused from the store, and wall-clock seconds."""

    results: MatrixResults
    trained: int
    cells: Counter[Status]
    reused: int
    seconds: float


@dataclass(frozen=True)
class Resume:
    """The part of a plan that a store already has, and the part that is still to run.

    Attributes:
        stored: finished cells by content hash.
        todo: cells to evaluate.
        is_complete: the newest matrix in the store is this one, and nothing is missing.
    """

    stored: Mapping[str, StoredCell]
    todo: tuple[EvaluationSpec, ...]
    is_complete: bool


def prepare(benchmark: Benchmark, data_dir: Path, device: torch.device) -> tuple[ImageDataset, Plan]:
    """Load the data and plan the matrix for this device.

    Raises:
        AebenchError: the data cannot be loaded.
    """
    config = benchmark.config
    data = load_dataset(benchmark.dataset.record, benchmark.dataset.params, data_dir, splits_seed(config.seed))
    precision = choose_precision(config.training.precision, device)
    return data, plan(benchmark, data.info, precision, device.type)


def resume(matrix: Plan, store: Store, *, fresh: bool) -> Resume:
    """Compare a plan with a store; with `fresh`, no stored result is reused."""
    stored = {} if fresh else store.finished(matrix.cells)
    todo = tuple(cell for cell in matrix.cells if cell.skip is None and cell.hash not in stored)
    return Resume(stored, todo, is_complete=not todo and not fresh and store.holds(matrix))


def run(
    benchmark: Benchmark,
    registry: Registry,
    options: RunOptions,
    progress: RunObserver,
) -> RunSummary:
    """Run what is not yet in the store, and record it there.

    Args:
        benchmark: what to run.
        registry: the plugins.
        options: how to run it.
        progress: observes the run.

    Raises:
        AebenchError: the device, the data or the store cannot be used; nothing has been written then.
    """
    started = time.perf_counter()
    device = choose_device(options.device)
    data, matrix = prepare(benchmark, options.data_dir, device)

    from aebench.tracking.store import Store  # imports MLflow, which takes seconds; bad input fails before

    store = Store(options.tracking_uri, options.experiment or f"aebench-{benchmark.dataset.record.name}")
    store.close_dead_runs()
    found = resume(matrix, store, fresh=options.fresh)
    if found.is_complete:
        return RunSummary(store.results(), 0, Counter(), len(found.stored), time.perf_counter() - started)

    with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
        artifacts = FolderStore(Path(folder))
        inputs = {DATA: artifacts.put_written(data.save)}
        trainings = {cell.training.hash for cell in found.todo}
        weights = {} if options.fresh else store.copy_weights(trainings, artifacts.put)
        evaluated = {cell.task for cell in found.todo}
        slow_tasks = frozenset(
            task.record.name
            for task in matrix.tasks
            if task.record.warm_up is not None and task.record.name in evaluated
        )
        with store.open_matrix(matrix, new=options.fresh) as target:
            for cell in matrix.cells:
                if cell.skip is not None:
                    target.record_skipped(cell)
                elif cell.hash in found.stored:
                    target.record_reused(cell, found.stored[cell.hash])
            if _needs_reference_classifier(matrix, found.todo):
                classifier = obtain_reference_classifier(
                    data,
                    device,
                    options.data_dir,
                    reference_classifier_provenance(device.type),
                    on_training=lambda: progress.note(f"training the reference classifier of {data.title}, once"),
                )
                target.record_reference_classifier(classifier.accuracy)
                inputs[REFERENCE_CLASSIFIER] = artifacts.put_written(
                    lambda file: save_reference_classifier(classifier, file)
                )
            jobs = build_jobs(found.todo, inputs, weights, slow_tasks, options.cell_timeout)
            recorder = _Recorder(
                matrix, registry, artifacts, target, progress, str(device), {job.id: job for job in jobs}
            )
            progress.begin(matrix, recorder.trainings, found.todo, len(found.stored))
            if jobs:
                config = WorkerConfig(artifacts.folder, inputs[DATA], str(device), registry.broken)
                executor = LocalExecutor(config, allocate(device, slow_tasks, options.jobs), options.worker_bytes)
                with closing(in_background(lambda stop: Scheduler(jobs, executor, stop).run())) as events:
                    for event in events:
                        recorder.record(event)
    results = store.results(target.parent_id)
    _describe(store, target.parent_id, results)
    return RunSummary(results, recorder.trained, recorder.cells, len(found.stored), time.perf_counter() - started)


def _needs_reference_classifier(matrix: Plan, todo: Iterable[EvaluationSpec]) -> bool:
    """Whether a cell that is still to run needs it and the data have labels to train it on."""
    needing = {task.record.name for task in matrix.tasks if task.record.needs_reference_classifier}
    return bool(matrix.dataset.classes) and any(cell.task in needing for cell in todo)


def _describe(store: Store, parent_id: str, results: MatrixResults) -> None:
    """Store the table as the description of the matrix's run, and the critical-difference diagrams as its artifacts."""
    from aebench.report.diagrams import ranking_diagrams
    from aebench.report.tables import markdown_table

    store.describe(parent_id, markdown_table(results), ranking_diagrams(results))


@dataclass
class _Recorder:
    """Writes events to the store, forwards them to the observer, and counts trainings and cells."""

    matrix: Plan
    registry: Registry
    artifacts: FolderStore
    target: MatrixRun
    progress: RunObserver
    device: str
    jobs: Mapping[str, Job]
    trained: int = 0
    cells: Counter[Status] = field(default_factory=Counter)

    @property
    def trainings(self) -> list[TrainingSpec]:
        """The trainings of this run."""
        return [job.spec for job in self.jobs.values() if isinstance(job.spec, TrainingSpec)]

    def record(self, event: Event) -> None:
        """Record one event of the scheduler."""
        spec = self.jobs[event.job_id].spec
        if isinstance(spec, TrainingSpec):
            self._record_training(spec, event)
        else:
            self._record_evaluation(spec, event)

    def _record_training(self, spec: TrainingSpec, event: Event) -> None:
        match event:
            case Started():
                self.progress.training_started(spec)
            case Progress():
                self.progress.epoch_done(spec, event.losses)
            case RetryScheduled():
                self.progress.training_retried(spec, event.error)
            case Succeeded(result=TrainingResult() as result):
                self.progress.training_done(spec, result)
                self.trained += 1
                weights = self.artifacts.path(event.artifacts[WEIGHTS])
                self._show(f"{spec.label} · {spec.training_key} · seed {spec.seed}", event.notes)
                output = self._files(event).get(OUTPUT)
                model = self._rebuilt(spec, weights)
                self.target.record_training(spec, result, self.device, weights, model, output, event.notes)

    def _record_evaluation(self, spec: EvaluationSpec, event: Event) -> None:
        match event:
            case Succeeded(result=CellResult() as result):
                self._record_cell(spec, result, event)
            case Failed():
                reason = f"training: {event.error}" if event.failed_dependency else event.error
                failed = CellResult.of(spec, Status.FAILED, reason=reason, traceback=event.traceback)
                self._record_cell(spec, failed, event)

    def _record_cell(self, spec: EvaluationSpec, result: CellResult, event: Succeeded | Failed) -> None:
        self.cells[result.status] += 1
        self.progress.cell_done(result)
        self._show(f"{spec.training.label} × {spec.key} · seed {spec.training.seed}", event.notes)
        self.target.record_cell(spec, result, self._files(event), event.notes)

    def _files(self, event: Succeeded | Failed) -> dict[str, Path]:
        """The artifacts of a job, as local files by name."""
        return {name: self.artifacts.path(ref) for name, ref in event.artifacts.items()}

    def _show(self, job: str, notes: Iterable[str]) -> None:
        for note in notes:
            self.progress.note(f"note     {job}: {note}")

    def _rebuilt(self, spec: TrainingSpec, weights: Path) -> Autoencoder | None:
        """The trained model in this process; None if the plugin's model cannot be built or cannot load its weights."""
        try:
            model = build_model(self.registry, spec, self.matrix.dataset.input_shape)
            model.load_state_dict(load_file(weights))
        except Exception:
            return None
        return model.eval()
