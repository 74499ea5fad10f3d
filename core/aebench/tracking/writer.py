"""Records one matrix as it runs: a parent run, and in it one run for each model and seed with its cells."""

from __future__ import annotations

import contextlib
import gc
import traceback
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from types import TracebackType
from typing import Self

from aebench.errors import AebenchError
from aebench.execution.artifacts import Ref
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, ExportSpec, TrainingSpec
from aebench.results.description import describe
from aebench.tracking import schema
from aebench.tracking.delivery import Delivery
from aebench.tracking.runs import Runs
from aebench.tracking.schema import StoredCell
from aebench.tracking.updates import ExportedModel, RunEnd, RunUpdate, files_in, metrics_now, milliseconds
from aebench.training.records import TrainingResult

Row = tuple[str, int]  # label of a model, and seed


class MatrixRun:
    """A matrix in the store, open for writing; a context manager that always closes its runs.

    What is recorded is kept in the journal at once, and reaches the store with `deliver`. One thread may record while
    another one delivers. On exit runs are FINISHED; FAILED if one of their cells failed, or the program; KILLED if it
    was interrupted.

    Args:
        runs: of the experiment.
        plan: the matrix.
        delivery: keeps what is recorded, and delivers it.
        parent_id: the parent run of the same matrix, to go on with; empty for a new one.
        children: the runs that are there already, by row.

    Attributes:
        parent_id: the parent run, from `__enter__` on.
    """

    def __init__(
        self,
        runs: Runs,
        plan: Plan,
        delivery: Delivery,
        parent_id: str = "",
        children: Mapping[Row, str] | None = None,
    ) -> None:
        self.parent_id = parent_id
        self._runs = runs
        self._plan = plan
        self._delivery = delivery
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
        """Close the runs; after an interruption a store that does not answer is not waited for."""
        if kind is None:
            failed = any(child.failed for child in self._children.values())
            end = RunEnd.FAILED if failed else RunEnd.FINISHED
        else:
            end = RunEnd.FAILED if issubclass(kind, Exception) else RunEnd.KILLED
        self._delivery.append([RunUpdate(run_id, end=end) for run_id in sorted(self._runs.open)])
        self._runs.open.clear()
        if kind is None:
            self._delivery.finish()
        else:
            if error is not None:
                # Its traceback may refer to a call with an open transaction, which locks the database.
                traceback.clear_frames(error.__traceback__)
                gc.collect()
            with contextlib.suppress(AebenchError):  # what is not delivered now is kept
                self._delivery.attempt(force=True)

    def deliver(self) -> bool:
        """Deliver to the store what has been recorded; False if the store does not answer now."""
        return self._delivery.attempt()

    def deliver_all(self) -> None:
        """Deliver everything to the store; wait for it if it does not answer.

        Raises:
            Unavailable: it did not answer until the time limit.
        """
        self._delivery.finish()

    def record_reference_classifier(self, accuracy: float) -> None:
        """Record the test accuracy of the reference classifier, in 0..1."""
        metrics = metrics_now({schema.REFERENCE_CLASSIFIER_ACCURACY: accuracy})
        self._delivery.append([RunUpdate(self.parent_id, tuple(metrics))])

    def record_known(self, stored: Mapping[str, StoredCell]) -> None:
        """Record all cells that are skipped, and those that are `ok` in the store, by their hashes."""
        updates = []
        for cell in self._plan.cells:
            if cell.skip is not None:
                updates.append(self._skipped(cell))
            elif cell.hash in stored:
                updates.append(self._reused(cell, stored[cell.hash]))
        self._delivery.append(updates)

    def record_reused(self, spec: EvaluationSpec, stored: StoredCell) -> None:
        """Record a cell that is `ok` in the store; its pictures stay in the run that computed it."""
        self._delivery.append([self._reused(spec, stored)])

    def record_training(
        self,
        spec: TrainingSpec,
        result: TrainingResult,
        device: str,
        weights: Ref,
        output: Ref | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """Record a training: curves, totals and weights.

        Args:
            spec: what was trained.
            result: how the training went.
            device: where, such as "cpu" or "cuda:0".
            weights: the model's weights as safetensors.
            output: what the training printed; None if it printed nothing.
            notes: what a user should know about it, a line each.
        """
        files = [(schema.weights_name(spec.training_key), weights)]
        if output is not None:
            files.append((schema.output_name(spec.training_key), output))
        update = RunUpdate(
            self._child(spec).run_id,
            tuple(schema.training_metrics(spec, result, milliseconds())),
            tags=schema.notes_tags(spec, notes) | schema.training_tags(spec, result, device, weights.digest),
            files=files_in(schema.WEIGHTS_FOLDER, files),
        )
        self._delivery.append([update])

    def record_model(self, spec: ExportSpec, program: Ref) -> None:
        """Record a trained model as an exported program."""
        training = spec.training
        plugin = next(row.plugin for row in self._plan.models if row.label == training.label)
        params = {
            "model": training.label,
            "latent_dim": str(training.latent_dim),
            "plugin": f"{plugin.distribution} {plugin.version}",
        }
        tag = schema.model_tag(training)
        model = ExportedModel(training.training_key, program, spec.input_shape, params, tag)
        self._delivery.append([RunUpdate(self._child(training).run_id, model=model)])

    def record_failed_export(self, spec: ExportSpec, reason: str, output: Ref | None = None) -> None:
        """Record why a trained model could not be exported, and what the export printed, if it printed anything."""
        training = spec.training
        files = [] if output is None else [(schema.output_name(f"{training.training_key}.export"), output)]
        update = RunUpdate(
            self._child(training).run_id,
            tags={schema.model_tag(training): reason[: schema.LONGEST_TAG]},
            files=files_in(schema.WEIGHTS_FOLDER, files),
        )
        self._delivery.append([update])

    def record_cell(
        self, spec: EvaluationSpec, result: CellResult, files: Mapping[str, Ref], notes: Sequence[str] = ()
    ) -> None:
        """Record a cell that was evaluated: its metrics, or why it failed, its files by name, and notes on it."""
        child = self._child(spec.training)
        contents = dict(files)
        if result.traceback:
            contents[schema.ERROR_FILE] = self._delivery.artifacts.put(result.traceback.encode())
        if result.status is Status.OK:
            update = self._ok(spec, result)
        else:
            child.failed = True
            update = RunUpdate(child.run_id, tags=schema.cell_tags(spec.hash, result))
        update = replace(
            update,
            tags=schema.notes_tags(spec, notes) | dict(update.tags),
            files=files_in(schema.cell_folder(spec.key), contents.items()),
        )
        self._delivery.append([self._ended(spec, update)])

    def _skipped(self, spec: EvaluationSpec) -> RunUpdate:
        result = CellResult.of(spec, Status.SKIPPED, reason=spec.skip or "")
        update = RunUpdate(self._child(spec.training).run_id, tags=schema.cell_tags(spec.hash, result))
        return self._ended(spec, update)

    def _reused(self, spec: EvaluationSpec, stored: StoredCell) -> RunUpdate:
        # The same evaluation can belong to another row, or to a rotation that it was not part of before.
        result = CellResult.of(spec, Status.OK, metrics=stored.result.metrics, absent=stored.result.absent)
        run_id = self._child(spec.training).run_id
        if stored.run_id == run_id:
            self._rotation_means.add(result)
            return self._ended(spec, RunUpdate(run_id))
        return self._ended(spec, self._ok(spec, result, from_run=stored.origin))

    def _ok(self, spec: EvaluationSpec, result: CellResult, from_run: str = "") -> RunUpdate:
        metrics, tags = schema.mean_metrics(spec.task, self._rotation_means.add(result))
        metrics |= schema.cell_metrics(result)
        tags |= schema.cell_tags(spec.hash, result, from_run)
        return RunUpdate(self._child(spec.training).run_id, tuple(metrics_now(metrics)), tags=tags)

    def _ended(self, spec: EvaluationSpec, update: RunUpdate) -> RunUpdate:
        """The update that ends a cell; with the last cell of a run it ends the run."""
        child = self._child(spec.training)
        child.cells_left -= 1
        if child.cells_left:
            return update
        self._runs.open.discard(child.run_id)
        return replace(update, end=RunEnd.FAILED if child.failed else RunEnd.FINISHED)

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
