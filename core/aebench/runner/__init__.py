"""Runs a benchmark: data -> plan -> what is still to do -> scheduler -> journal -> store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from aebench.contracts import ImageDataset
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import obtain_reference_classifier, save_reference_classifier
from aebench.execution.allocation import allocate
from aebench.execution.artifacts import Ref
from aebench.execution.background import in_background
from aebench.execution.checkpoints import Checkpoints, save_checkpoints
from aebench.execution.devices import choose_device, choose_precision
from aebench.execution.events import Draining, Event
from aebench.execution.jobs import DATA, REFERENCE_CLASSIFIER, build_exports, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.work_folder import RunFolder, WorkFolder
from aebench.execution.worker import WorkerConfig, start_server
from aebench.planning.benchmark import Benchmark
from aebench.planning.cells import Status
from aebench.planning.planner import Plan, plan
from aebench.planning.provenance import reference_classifier_provenance
from aebench.planning.seeds import splits_seed
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.report.observer import RunObserver
from aebench.runner.interrupt import Interrupt
from aebench.runner.options import RunOptions
from aebench.runner.recorder import Recorder
from aebench.runner.resume import deliver_abandoned, open_journal

if TYPE_CHECKING:
    from aebench.results.matrix import MatrixResults
    from aebench.tracking.journal import Journal
    from aebench.tracking.schema import StoredCell
    from aebench.tracking.store import Store
    from aebench.tracking.writer import MatrixRun

WAIT_SECONDS = 1.0  # between two looks at what another run has finished


@dataclass(frozen=True)
class RunSummary:
    """What a run did: trainings done, cells run by status, cells reused from the store, and wall-clock seconds."""

    results: MatrixResults
    trained: int
    cells: Counter[Status]
    reused: int
    seconds: float


def prepare(benchmark: Benchmark, data_dir: Path, device: torch.device) -> tuple[ImageDataset, Plan]:
    """Load the data and plan the matrix for this device.

    Raises:
        AebenchError: the data cannot be loaded.
    """
    config = benchmark.config
    data = load_dataset(benchmark.dataset.record, benchmark.dataset.params, data_dir, splits_seed(config.seed))
    precision = choose_precision(config.training.precision, device)
    return data, plan(benchmark, data.info, precision, device.type)


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
        AebenchError: the device, the data, the store or the work folder cannot be used; nothing has been written then.
            Or the store stopped answering; results that it did not get are kept for the next run.
    """
    started = time.perf_counter()
    device = choose_device(options.device)
    data, matrix = prepare(benchmark, options.data_dir, device)

    # Imports MLflow, which takes seconds; bad input fails before.
    from aebench.tracking.connection import create_database, store_uri
    from aebench.tracking.store import Store

    work = WorkFolder(options.work_dir)
    experiment = options.experiment or f"aebench-{benchmark.dataset.record.name}"
    with work.new_run() as folder:
        start_server()  # in the folder of the run, which keeps its temporary files
        create_database(store_uri(options.tracking_uri))
        store = Store(options.tracking_uri, experiment, progress.note)
        deliver_abandoned(work, store, progress.note)
        store.close_dead_runs()
        journal = open_journal(folder, store.identity)
        matrix_runner = _MatrixRunner(matrix, data, device, registry, options, progress, work, folder, store, journal)
        try:
            results = matrix_runner.run()
        finally:
            folder.keep = len(journal) > 0
    seconds = time.perf_counter() - started
    return RunSummary(results, matrix_runner.trained, matrix_runner.cells, matrix_runner.reused, seconds)


@dataclass
class _MatrixRunner:
    """Runs one matrix in a folder of its own.

    Attributes:
        trained: trainings done.
        cells: cells run, by status.
        reused: cells whose results were in the store.
    """

    matrix: Plan
    data: ImageDataset
    device: torch.device
    registry: Registry
    options: RunOptions
    progress: RunObserver
    work: WorkFolder
    folder: RunFolder
    store: Store
    journal: Journal
    trained: int = 0
    cells: Counter[Status] = field(default_factory=Counter)
    reused: int = 0
    _has_waited: bool = False

    def run(self) -> MatrixResults:
        """Run all cells that are not in the store; those that another run is computing are waited for."""
        remaining = [cell for cell in self.matrix.cells if cell.skip is None]
        found, claimed, held = self._claim(remaining)
        while held and not claimed:  # an equal matrix may be under way, which this run must not open a second time
            self._wait(held)
            found, claimed, held = self._claim(remaining)
        self.reused = len(found)
        if not claimed and not self.options.fresh and self.store.holds(self.matrix):
            return self.store.results()
        with self.store.open_matrix(self.matrix, self.journal, new=self.options.fresh) as target:
            target.record_known(found)
            while True:
                self._run_cells(claimed, target)
                target.deliver_all()  # before other runs may claim what is in the store now
                done = found.keys() | {cell.hash for cell in claimed}
                remaining = [cell for cell in remaining if cell.hash not in done]
                if not remaining:
                    break
                found, claimed, held = self._claim(remaining)
                if not found and not claimed:
                    self._wait(held)
                for cell in remaining:
                    if cell.hash in found:
                        target.record_reused(cell, found[cell.hash])
                        self.reused += 1
        results = self.store.results(target.parent_id)
        _describe(self.store, target.parent_id, results)
        return results

    def _claim(self, cells: Sequence[EvaluationSpec]) -> tuple[dict[str, StoredCell], list[EvaluationSpec], int]:
        """Claim the cells that no other run holds.

        Returns:
            What is in the store, by hash; with `fresh`, nothing counts. The cells that this run has to compute now. The
            number of cells that other runs hold.
        """
        destination = f"{self.store.identity} {self.store.experiment}"
        free = self.work.claim(self.folder, destination, cells)
        found = {} if self.options.fresh else self.store.finished(cells)  # after the claim: others store, then release
        # What is in the store must not keep others from its training.
        mine = self.work.claim(self.folder, destination, [cell for cell in free if cell.hash not in found])
        return found, mine, len(cells) - len(free)

    def _wait(self, cells: int) -> None:
        """Wait a moment for another run that computes cells of this matrix."""
        if not self._has_waited:
            self.progress.note(f"another run is computing {cells} of these cells; waiting for it")
            self._has_waited = True
        time.sleep(WAIT_SECONDS)

    def _run_cells(self, cells: Sequence[EvaluationSpec], target: MatrixRun) -> None:
        """Train and evaluate what these cells need, and record it."""
        if not cells:
            return
        artifacts = self.folder.artifacts
        inputs = {DATA: artifacts.put_written(self.data.save)}
        if self._need_reference_classifier(cells):
            inputs[REFERENCE_CLASSIFIER] = self._reference_classifier(target)
        hashes = {cell.training.hash for cell in cells}
        weights = {} if self.options.fresh else self.store.copy_weights(hashes, artifacts.put)
        checkpoints = Checkpoints(self.work.checkpoints)
        saved = {} if self.options.fresh else self._saved(checkpoints, hashes - weights.keys())
        evaluated = {cell.task for cell in cells}
        slow_tasks = frozenset(
            task.record.name
            for task in self.matrix.tasks
            if task.record.warm_up is not None and task.record.name in evaluated
        )
        jobs = build_jobs(
            cells,
            inputs,
            weights,
            slow_tasks,
            self.options.cell_timeout,
            checkpoints=saved,
            checkpoint_every=self.options.checkpoint_every,
        )
        trainings = [job.spec for job in jobs if isinstance(job.spec, TrainingSpec)]
        jobs += build_exports(jobs, self.matrix.dataset.input_shape)
        self.progress.begin(self.matrix, trainings, cells, self.reused)
        config = WorkerConfig(artifacts.folder, inputs[DATA], str(self.device), self.registry.broken)
        executor = LocalExecutor(
            config, allocate(self.device, slow_tasks, self.options.jobs), self.options.worker_bytes
        )
        recorder = Recorder(jobs, checkpoints, target, self.progress, self.device)

        def produce(stop: Callable[[], bool]) -> Iterator[Event | Draining]:
            scheduler = Scheduler(jobs, executor, stop, lambda: interrupt.requested, artifacts.discard)
            return recorder.journaled(save_checkpoints(scheduler.run(), jobs, artifacts, checkpoints))

        with Interrupt() as interrupt, closing(in_background(produce)) as events:
            for event in events:
                recorder.forward(event)
        self.trained += recorder.trained
        self.cells += recorder.cells
        if interrupt.requested:
            raise KeyboardInterrupt

    def _saved(self, checkpoints: Checkpoints, hashes: Iterable[str]) -> dict[str, Ref]:
        """The checkpoints of interrupted trainings, by hash of the training."""
        checkpoints.discard_old()
        contents = ((training, checkpoints.load(training, self.progress.note)) for training in sorted(hashes))
        return {training: self.folder.artifacts.put(content) for training, content in contents if content is not None}

    def _need_reference_classifier(self, cells: Iterable[EvaluationSpec]) -> bool:
        """Whether one of these cells needs it, and the data have labels to train it on."""
        needing = {task.record.name for task in self.matrix.tasks if task.record.needs_reference_classifier}
        return bool(self.matrix.dataset.classes) and any(cell.task in needing for cell in cells)

    def _reference_classifier(self, target: MatrixRun) -> Ref:
        classifier = obtain_reference_classifier(
            self.data,
            self.device,
            self.options.data_dir,
            reference_classifier_provenance(self.device.type),
            on_training=lambda: self.progress.note(f"training the reference classifier of {self.data.title}, once"),
        )
        target.record_reference_classifier(classifier.accuracy)
        return self.folder.artifacts.put_written(lambda file: save_reference_classifier(classifier, file))


def _describe(store: Store, parent_id: str, results: MatrixResults) -> None:
    """Store the table as the description of the matrix's run, and the critical-difference diagrams as its artifacts."""
    from aebench.report.diagrams import ranking_diagrams
    from aebench.report.tables import markdown_table

    store.describe(parent_id, markdown_table(results), ranking_diagrams(results))
