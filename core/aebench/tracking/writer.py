"""Records one matrix as it runs: a parent run, and in it one run for each model and seed with its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from types import TracebackType
from typing import Self

from aebench.contracts import Autoencoder
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.results.description import describe
from aebench.tracking import schema
from aebench.tracking.model_export import log_model
from aebench.tracking.runs import RunEnd, Runs, milliseconds
from aebench.tracking.schema import StoredCell
from aebench.training.records import TrainingResult

Row = tuple[str, int]  # label of a model, and seed


class MatrixRun:
    """A matrix in the store, open for writing; a context manager that always closes its runs.

    On exit runs are FINISHED; FAILED if one of their cells failed, or the program; KILLED if it was interrupted.

    Args:
        runs: of the experiment.
        plan: the matrix.
        parent_id: the parent run of the same matrix, to go on with; empty for a new one.
        children: the runs that are there already, by row.

    Attributes:
        parent_id: the parent run, from `__enter__` on.
    """

    def __init__(self, runs: Runs, plan: Plan, parent_id: str = "", children: Mapping[Row, str] | None = None) -> None:
        self.parent_id = parent_id
        self._runs = runs
        self._plan = plan
        self._children = {row: _Child(run_id) for row, run_id in (children or {}).items()}
        self._rotation_means = RotationMeans(plan)

    def __enter__(self) -> Self:
        """Open the runs; an interruption closes those that are already open."""
        try:
            self._open()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if kind is None:
            failed = any(child.failed for child in self._children.values())
            end = RunEnd.FAILED if failed else RunEnd.FINISHED
        else:
            end = RunEnd.FAILED if issubclass(kind, Exception) else RunEnd.KILLED
        self._runs.close_all(end)

    def record_reference_classifier(self, accuracy: float) -> None:
        """Record the test accuracy of the reference classifier, in 0..1."""
        self._runs.log(self.parent_id, {schema.REFERENCE_CLASSIFIER_ACCURACY: accuracy})

    def record_skipped(self, spec: EvaluationSpec) -> None:
        """Record that a cell is not evaluated, and why."""
        result = CellResult.of(spec, Status.SKIPPED, reason=spec.skip or "")
        self._runs.log(self._child(spec.training).run_id, tags=schema.cell_tags(spec.hash, result))
        self._cell_ended(spec)

    def record_reused(self, spec: EvaluationSpec, stored: StoredCell) -> None:
        """Record a cell that is `ok` in the store; its pictures stay in the run that computed it."""
        # The same evaluation can belong to another row, or to a rotation that it was not part of before.
        result = CellResult.of(spec, Status.OK, metrics=stored.result.metrics, absent=stored.result.absent)
        run_id = self._child(spec.training).run_id
        if stored.run_id == run_id:
            self._rotation_means.add(result)
        else:
            self._record_ok(spec, result, from_run=stored.origin)
        self._cell_ended(spec)

    def record_training(
        self,
        spec: TrainingSpec,
        result: TrainingResult,
        device: str,
        weights: Path,
        model: Autoencoder | None,
        output: Path | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Record a training: curves, totals, weights, and the model if it can be exported.

        Args:
            spec: what was trained.
            result: how the training went.
            device: where, such as "cpu" or "cuda:0".
            weights: a local file with the model's weights as safetensors.
            model: with these weights, in evaluation mode on the CPU; None if it does not load them.
            output: a local file with what the training printed; None if it printed nothing.
            notes: what a user should know about it, a line each.
        """
        run_id = self._child(spec).run_id
        if output is not None:
            self._runs.log_files(
                run_id, schema.WEIGHTS_FOLDER, {schema.training_output_name(spec.training_key): output}
            )
        self._runs.log(run_id, schema.training_metrics(spec, result, milliseconds()))
        self._runs.log_files(run_id, schema.WEIGHTS_FOLDER, {schema.weights_name(spec.training_key): weights})
        if model is None:
            model_not_logged = "the model does not load its own weights"
        else:
            plugin = next(row.plugin for row in self._plan.models if row.label == spec.label)
            model_not_logged = log_model(run_id, spec, model, self._plan.dataset.input_shape, plugin)
        tags = schema.training_tags(spec, result, device, model_not_logged)
        self._runs.log(run_id, tags=schema.training_notes(spec, notes) | tags)

    def record_cell(
        self, spec: EvaluationSpec, result: CellResult, files: Mapping[str, Path], notes: Sequence[str] = ()
    ) -> None:
        """Record a cell that was evaluated: its metrics, or why it failed, its files by name, and notes on it."""
        child = self._child(spec.training)
        contents: dict[str, Path | bytes] = dict(files)
        if result.traceback:
            contents[schema.ERROR_FILE] = result.traceback.encode()
        self._runs.log_files(child.run_id, schema.cell_folder(spec.key), contents)
        if notes:
            self._runs.log(child.run_id, tags=schema.cell_notes(spec, notes))
        if result.status is Status.OK:
            self._record_ok(spec, result)
        else:
            child.failed = True
            self._runs.log(child.run_id, tags=schema.cell_tags(spec.hash, result))
        self._cell_ended(spec)

    def _record_ok(self, spec: EvaluationSpec, result: CellResult, from_run: str = "") -> None:
        metrics, tags = schema.mean_metrics(spec.task, self._rotation_means.add(result))
        metrics |= schema.cell_metrics(result)
        tags |= schema.cell_tags(spec.hash, result, from_run)
        self._runs.log(self._child(spec.training).run_id, metrics, tags=tags)

    def _cell_ended(self, spec: EvaluationSpec) -> None:
        child = self._child(spec.training)
        child.cells_left -= 1
        if not child.cells_left:
            self._runs.close(child.run_id, RunEnd.FAILED if child.failed else RunEnd.FINISHED)

    def _child(self, training: TrainingSpec) -> _Child:
        return self._children[training.label, training.seed]

    def _open(self) -> None:
        plan = self._plan
        if self.parent_id:
            self._runs.reopen(self.parent_id)
        else:
            name, tags = schema.matrix_name(plan), schema.matrix_tags(plan)
            self.parent_id = self._runs.create(name, tags, schema.matrix_params(plan))
        self._runs.log_json(self.parent_id, schema.DESCRIPTION_FILE, describe(plan))
        cells: dict[Row, list[EvaluationSpec]] = {}
        for cell in plan.cells:
            cells.setdefault((cell.training.label, cell.training.seed), []).append(cell)
        for row, of_row in cells.items():
            if row in self._children:
                self._runs.reopen(self._children[row].run_id)
            else:
                self._children[row] = _Child(self._create_child(row, of_row))
            self._children[row].cells_left = len(of_row)

    def _create_child(self, row: Row, cells: list[EvaluationSpec]) -> str:
        plan, (label, seed) = self._plan, row
        model = next(model for model in plan.models if model.label == label)
        tags = schema.model_tags(plan, label, seed, model.record, self.parent_id)
        run_id = self._runs.create(schema.model_name(plan, label, seed), tags, schema.model_params(model, cells))
        self._runs.log_dataset(run_id, plan.dataset)
        return run_id


@dataclass
class _Child:
    """The run of one model and seed."""

    run_id: str
    cells_left: int = 0
    failed: bool = False


class RotationMeans:
    """Means over held-out classes, for tasks that are evaluated once for each of several."""

    def __init__(self, plan: Plan) -> None:
        self._expected = Counter(
            (cell.training.label, cell.training.seed, cell.task) for cell in plan.cells if cell.training.in_rotation
        )
        self._metrics: dict[tuple[str, int, str], list[Mapping[str, float]]] = {}

    def add(self, result: CellResult) -> dict[str, float]:
        """Add a cell that is ok; the last of several gives the means of the metrics that all of them have."""
        if result.held_out is None:
            return {}
        column = result.model, result.seed, result.task
        parts = self._metrics.setdefault(column, [])
        parts.append(result.metrics)
        if len(parts) < self._expected[column]:
            return {}
        return {name: fmean(part[name] for part in parts) for name in set.intersection(*map(set, parts))}
