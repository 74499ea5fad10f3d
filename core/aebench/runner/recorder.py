"""Writes events to the journal as they happen, then forwards them to the store and to the observer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import torch

from aebench.execution.checkpoints import Checkpoints
from aebench.execution.events import (
    CheckpointFailed,
    Draining,
    Event,
    Failed,
    Progress,
    RetryScheduled,
    Started,
    Succeeded,
)
from aebench.execution.job_output import OUTPUT
from aebench.execution.jobs import PROGRAM, WEIGHTS, Job
from aebench.planning.cells import CellResult, Status
from aebench.planning.specs import EvaluationSpec, ExportSpec, TrainingSpec
from aebench.report.observer import RunObserver
from aebench.training.records import TrainingResult

if TYPE_CHECKING:
    from aebench.tracking.writer import MatrixRun


class Recorder:
    """Records the events of some jobs.

    `journaled` may run in another thread than `forward`.

    Args:
        jobs: the jobs.
        checkpoints: those of trainings that have ended are discarded.
        target: where results are recorded.
        progress: observes the run.
        device: on which the jobs run.

    Attributes:
        trained: trainings done.
        cells: cells run, by status.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        checkpoints: Checkpoints,
        target: MatrixRun,
        progress: RunObserver,
        device: torch.device,
    ) -> None:
        self.trained = 0
        self.cells: Counter[Status] = Counter()
        self._specs = {job.id: job.spec for job in jobs}
        self._checkpoints = checkpoints
        self._target = target
        self._progress = progress
        self._device = device

    def journaled(self, events: Iterable[Event | Draining]) -> Iterator[Event | Draining]:
        """The events, each after its result has been written to the journal."""
        for event in events:
            if not isinstance(event, Draining):
                self._record(self._specs[event.job_id], event)
            yield event

    def forward(self, event: Event | Draining) -> None:
        """Deliver what has been recorded, and tell the observer about an event."""
        if isinstance(event, Draining):
            trainings = sum(isinstance(self._specs[job_id], TrainingSpec) for job_id in event.running)
            self._progress.note(
                f"stopping after the current steps of {trainings} trainings and the end of "
                f"{len(event.running) - trainings} evaluations and exports; another Ctrl-C stops at once"
            )
            return
        spec = self._specs[event.job_id]
        if isinstance(spec, TrainingSpec):
            self._forward_training(spec, event)
        elif isinstance(spec, ExportSpec):
            job = f"{spec.training.label} · export of {spec.training.training_key} · seed {spec.training.seed}"
            self._show_notes(job, event)
            if isinstance(event, Failed) and not event.failed_dependency:
                self._progress.note(f"note     {job}: failed: {event.error}")
        elif (result := _cell_result(spec, event)) is not None:
            self.cells[result.status] += 1
            self._progress.cell_done(result)
            self._show_notes(f"{spec.training.label} × {spec.key} · seed {spec.training.seed}", event)
        if isinstance(event, Succeeded | Failed):
            self._target.deliver()

    def _record(self, spec: TrainingSpec | EvaluationSpec | ExportSpec, event: Event) -> None:
        if isinstance(spec, ExportSpec):
            if isinstance(event, Succeeded):
                self._target.record_model(spec, event.artifacts[PROGRAM])
            elif isinstance(event, Failed) and not event.failed_dependency:
                self._target.record_failed_export(spec, event.error, event.artifacts.get(OUTPUT))
        elif isinstance(spec, EvaluationSpec):
            result = _cell_result(spec, event)
            if result is not None:
                assert isinstance(event, Succeeded | Failed)
                self._target.record_cell(spec, result, event.artifacts, event.notes)
        elif isinstance(event, Succeeded) and isinstance(event.result, TrainingResult):
            self._target.record_training(
                spec,
                event.result,
                str(self._device),
                event.artifacts[WEIGHTS],
                event.artifacts.get(OUTPUT),
                event.notes,
            )
            self._checkpoints.discard(spec.hash)

    def _forward_training(self, spec: TrainingSpec, event: Event) -> None:
        match event:
            case Started():
                self._progress.training_started(spec)
            case Progress():
                self._progress.epoch_done(spec, event.losses)
            case RetryScheduled():
                self._progress.training_retried(spec, event.error)
            case CheckpointFailed():
                self._progress.note(f"{spec.label}: {event.error}")
            case Succeeded(result=TrainingResult() as result):
                self._progress.training_done(spec, result)
                self._show_notes(f"{spec.label} · {spec.training_key} · seed {spec.seed}", event)
                self.trained += 1

    def _show_notes(self, job: str, event: Event) -> None:
        if isinstance(event, Succeeded | Failed):
            for note in event.notes:
                self._progress.note(f"note     {job}: {note}")


def _cell_result(spec: EvaluationSpec, event: Event) -> CellResult | None:
    """The result of a cell that an event ends; None for any other event."""
    match event:
        case Succeeded(result=CellResult() as result):
            return result
        case Failed():
            reason = f"training: {event.error}" if event.failed_dependency else event.error
            return CellResult.of(spec, Status.FAILED, reason=reason, traceback=event.traceback)
    return None
