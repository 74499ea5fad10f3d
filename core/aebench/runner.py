"""Runs a benchmark: data -> plan -> what is still to do -> executor -> store."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from safetensors.torch import load

from aebench.contracts import Autoencoder, ImageDataset
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, obtain_reference_classifier
from aebench.execution import Crew, LocalExecutor
from aebench.execution.devices import choose_device, choose_precision
from aebench.execution.work import CellDone, Message, Trained, Unit
from aebench.planning.benchmark import Benchmark
from aebench.planning.planner import Plan, plan
from aebench.planning.provenance import reference_classifier_provenance
from aebench.planning.seeds import splits_seed
from aebench.planning.specs import EvaluationSpec
from aebench.registry.records import Registry
from aebench.training.building import build_model

if TYPE_CHECKING:
    from aebench.results.matrix import MatrixResults
    from aebench.tracking import MatrixRun


class Progress(Protocol):
    """Who is told how a run goes on."""

    def begin(self, plan: Plan, units: Sequence[Unit], reused: int) -> None: ...
    def update(self, message: Message) -> None: ...
    def note(self, line: str) -> None: ...


class Executor(Protocol):
    """Where units are worked on. Messages of one unit come in order; closing the iterator stops the work."""

    def run(
        self, units: Sequence[Unit], data: ImageDataset, reference_classifier: ConvolutionalClassifier | None
    ) -> Generator[Message, None, None]: ...


@dataclass(frozen=True)
class RunOptions:
    """How to run, which changes no result beyond floating-point noise, save that "auto" precision looks at the device.

    Attributes:
        device: auto, cpu, cuda or cuda:N.
        jobs: trainings at once; None for what suits the device, see `Crew`.
        data_dir: where data sets are kept.
        tracking_uri: None for MLFLOW_TRACKING_URI or MLflow's own default.
        experiment: None for "aebench-<dataset>".
        fresh: run every cell again, whatever the store holds.
    """

    device: str
    jobs: int | None
    data_dir: Path
    tracking_uri: str | None
    experiment: str | None
    fresh: bool


@dataclass(frozen=True)
class RunSummary:
    """What a run did: trainings done, cells run now by status, cells that were already there, seconds in all."""

    results: MatrixResults
    trained: int
    cells: Counter[str]
    reused: int
    seconds: float


def prepare(benchmark: Benchmark, data_dir: Path, device: torch.device) -> tuple[ImageDataset, Plan]:
    """Load the data and lay out the matrix, as it would be run on this device."""
    data = load_dataset(
        benchmark.dataset.record, benchmark.dataset.params, data_dir, splits_seed(benchmark.config.seed)
    )
    precision = choose_precision(benchmark.config.training.precision, device)
    return data, plan(benchmark, data.info, precision, device.type)


def run(
    benchmark: Benchmark,
    registry: Registry,
    options: RunOptions,
    progress: Progress,
    executor: Executor | None = None,
) -> RunSummary:
    """Run what is not yet in the store, and record it there.

    Raises:
        AebenchError: the device, the data or the store cannot be used; nothing has been written then.
    """
    started = time.perf_counter()
    device = choose_device(options.device)
    data, matrix = prepare(benchmark, options.data_dir, device)

    from aebench.tracking import Store  # imports MLflow, which takes seconds: not before the rest is known to be right

    store = Store(options.tracking_uri, options.experiment or f"aebench-{benchmark.dataset.record.name}")
    store.close_dead_runs()
    finished = {} if options.fresh else store.finished(matrix.cells)
    todo = [cell for cell in matrix.cells if cell.skip is None and cell.hash not in finished]
    if not todo and not options.fresh and store.holds(matrix):
        return RunSummary(store.results(), 0, Counter(), len(finished), time.perf_counter() - started)

    units = _units(todo)
    if not options.fresh:
        weights = store.weights(unit.training for unit in units)
        units = [replace(unit, weights=weights.get(unit.training.hash)) for unit in units]
    reference_classifier = _reference_classifier(matrix, todo, data, device, options.data_dir, progress)
    executor = executor or LocalExecutor(registry, device, Crew.suited_to(device, options.jobs))
    recorder = _Recorder(matrix, registry, progress)
    with store.open_matrix(matrix, new=options.fresh) as target:
        for cell in matrix.cells:
            if cell.skip is not None:
                target.skip(cell)
            elif cell.hash in finished:
                target.reuse(cell, finished[cell.hash])
        if reference_classifier is not None:
            target.record_reference_classifier(reference_classifier.accuracy)
        progress.begin(matrix, units, len(finished))
        if units:
            with closing(executor.run(units, data, reference_classifier)) as messages:
                recorder.record(messages, target)
    results = store.results(target.parent_id)
    store.describe(target.parent_id, results)
    return RunSummary(results, recorder.trained, recorder.cells, len(finished), time.perf_counter() - started)


def _reference_classifier(
    matrix: Plan,
    todo: Sequence[EvaluationSpec],
    data: ImageDataset,
    device: torch.device,
    data_dir: Path,
    progress: Progress,
) -> ConvolutionalClassifier | None:
    """The reference classifier, if a cell that is still to do needs it and the data has labels."""
    asking = {task.record.name for task in matrix.tasks if task.record.needs_reference_classifier}
    if not data.classes or not any(cell.task in asking for cell in todo):
        return None
    return obtain_reference_classifier(
        data,
        device,
        data_dir,
        reference_classifier_provenance(device.type),
        on_training=lambda: progress.note(f"training the reference classifier of {data.title}, once for all runs"),
    )


def _units(cells: Iterable[EvaluationSpec]) -> list[Unit]:
    """Cells gathered by the training they share."""
    by_training: dict[object, list[EvaluationSpec]] = {}
    for cell in cells:
        by_training.setdefault(cell.training, []).append(cell)
    return [Unit(cells[0].training, tuple(cells)) for cells in by_training.values()]


class _Recorder:
    """Writes what an executor reports, and counts it."""

    def __init__(self, matrix: Plan, registry: Registry, progress: Progress) -> None:
        self._matrix = matrix
        self._registry = registry
        self._progress = progress
        self.trained = 0
        self.cells: Counter[str] = Counter()

    def record(self, messages: Iterator[Message], target: MatrixRun) -> None:
        for message in messages:
            self._progress.update(message)
            if isinstance(message, Trained):
                self.trained += 1
                target.trained(message, self._rebuilt(message))
            elif isinstance(message, CellDone):
                self.cells[message.status] += 1
                target.evaluated(message)

    def _rebuilt(self, message: Trained) -> Autoencoder | None:
        """The trained model in this process, or None where a plugin's model does not load its own weights."""
        try:
            model = build_model(self._registry, message.training, self._matrix.dataset.input_shape)
            model.load_state_dict(load(message.weights))
        except Exception:
            return None
        return model.eval()
