"""Writes events to the journal as they happen, then forwards them to the store and to the observer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file

from aebench.contracts import Autoencoder
from aebench.execution.artifacts import FolderStore, Ref
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
from aebench.execution.jobs import WEIGHTS, Job
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.registry.records import Registry
from aebench.report.observer import RunObserver
from aebench.training.building import build_model
from aebench.training.records import TrainingResult

if TYPE_CHECKING:
    from aebench.tracking.writer import MatrixRun


class Recorder:
    """Records the events of some jobs.

    `journaled` may run in another thread than `forward`.

    Args:
        jobs: the jobs.
        matrix: which they belong to.
        registry: the plugins.
        artifacts: those of the jobs.
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
        matrix: Plan,
        registry: Registry,
        artifacts: FolderStore,
        checkpoints: Checkpoints,
        target: MatrixRun,
        progress: RunObserver,
        device: torch.device,
    ) -> None:
        self.trained = 0
        self.cells: Counter[Status] = Counter()
        self._specs = {job.id: job.spec for job in jobs}
        self._matrix = matrix
        self._registry = registry
        self._artifacts = artifacts
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
            running = [isinstance(self._specs[job_id], TrainingSpec) for job_id in event.running]
            self._progress.note(
                f"stopping after the current steps of {sum(running)} trainings and the end of "
                f"{len(running) - sum(running)} evaluations; another Ctrl-C stops at once"
            )
            return
        spec = self._specs[event.job_id]
        if isinstance(spec, TrainingSpec):
            self._forward_training(spec, event)
        elif (result := _cell_result(spec, event)) is not None:
            self.cells[result.status] += 1
            self._progress.cell_done(result)
            self._show_notes(f"{spec.training.label} × {spec.key} · seed {spec.training.seed}", event)
        if isinstance(event, Succeeded | Failed):
            self._target.deliver()

    def _record(self, spec: TrainingSpec | EvaluationSpec, event: Event) -> None:
        if isinstance(spec, EvaluationSpec):
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
                self._target.log_model(spec, partial(self._rebuilt, spec, event.artifacts[WEIGHTS]))

    def _show_notes(self, job: str, event: Event) -> None:
        if isinstance(event, Succeeded | Failed):
            for note in event.notes:
                self._progress.note(f"note     {job}: {note}")

    def _rebuilt(self, spec: TrainingSpec, weights: Ref) -> Autoencoder:
        """The trained model in this process."""
        model = build_model(self._registry, spec, self._matrix.dataset.input_shape)
        model.load_state_dict(load_file(self._artifacts.path(weights)))
        return model.eval()


def _cell_result(spec: EvaluationSpec, event: Event) -> CellResult | None:
    """The result of a cell that an event ends; None for any other event."""
    match event:
        case Succeeded(result=CellResult() as result):
            return result
        case Failed():
            reason = f"training: {event.error}" if event.failed_dependency else event.error
            return CellResult.of(spec, Status.FAILED, reason=reason, traceback=event.traceback)
    return None
