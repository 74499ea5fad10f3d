"""Live progress of a run in a terminal, and plain lines where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Sequence
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.report.remaining_work import RemainingWork
from aebench.training.records import EpochLosses, TrainingResult


class RunProgress:
    """Shows cells done, current trainings with their losses, and the time left; a `RunObserver` and context manager."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bars: _Bars | None = None
        self._total = self._done = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def begin(
        self, plan: Plan, trainings: Sequence[TrainingSpec], cells: Sequence[EvaluationSpec], reused: int
    ) -> None:
        self._total = len(cells)
        skipped = sum(cell.skip is not None for cell in plan.cells)
        self.note(
            f"{plan.dataset.title}: {len(plan.cells)} cells, {skipped} skipped, {reused} already done; "
            f"{len(cells)} to do, with {len(trainings)} trainings"
        )
        if self._console.is_terminal:
            self._bars = _Bars(self._console, trainings, cells)
            self._bars.start()

    def training_started(self, spec: TrainingSpec) -> None:
        if self._bars is not None:
            self._bars.training_started(spec)

    def epoch_done(self, spec: TrainingSpec, losses: EpochLosses) -> None:
        if self._bars is not None:
            self._bars.epoch_done(spec, losses)

    def training_done(self, spec: TrainingSpec, result: TrainingResult) -> None:
        if self._bars is not None:
            self._bars.training_done(spec)
        else:
            self._print(f"trained  {_training_name(spec)} ({result.seconds:.1f} s)")

    def training_retried(self, spec: TrainingSpec, reason: str) -> None:
        if self._bars is not None:
            self._bars.training_retried(spec)
        self._print(f"retry    {_training_name(spec)}: {reason}")

    def cell_done(self, result: CellResult) -> None:
        self._done += 1
        if self._bars is not None:
            self._bars.cell_done(result)
        if result.status is Status.FAILED:
            self._print(f"failed   {_cell_name(result)}: {result.reason}")
        elif self._bars is None:
            self._print(f"ok       {_cell_name(result)} ({result.seconds:.1f} s)")

    def note(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False)

    def _print(self, line: str) -> None:
        prefix = "" if self._bars is not None else f"[{self._done}/{self._total}] "
        self._console.print(f"{prefix}{line}", markup=False, highlight=False, soft_wrap=True)


class _Bars:
    """One bar over all cells, and one for every training that has started and still has cells to do."""

    def __init__(self, console: Console, trainings: Sequence[TrainingSpec], cells: Sequence[EvaluationSpec]) -> None:
        self._overall = Progress(
            TextColumn("cells"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._cells = self._overall.add_task("", total=len(cells), left="")
        self._current = Progress(TextColumn("  {task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))
        self._trainings: dict[TrainingSpec, TaskID] = {}
        self._live = Live(Group(self._overall, self._current), console=console, transient=True)
        self._work = RemainingWork(trainings, cells)
        self._started = time.monotonic()

    def start(self) -> None:
        self._live.start()

    def stop(self) -> None:
        self._live.stop()

    def training_started(self, spec: TrainingSpec) -> None:
        self._bar(spec)

    def epoch_done(self, spec: TrainingSpec, losses: EpochLosses) -> None:
        state = f"epoch {losses.epoch}, loss {losses.total:.2f}"
        self._current.update(self._bar(spec), completed=losses.epoch, state=state)
        self._work.epoch_done(spec, losses.epoch)
        self._show_time_left()

    def training_done(self, spec: TrainingSpec) -> None:
        self._current.update(self._bar(spec), completed=spec.epochs, state="evaluating")
        self._work.training_done(spec)
        self._show_time_left()

    def training_retried(self, spec: TrainingSpec) -> None:
        self._remove(spec)

    def cell_done(self, result: CellResult) -> None:
        self._overall.advance(self._cells)
        completed = self._work.cell_done(result)
        if completed is not None:
            self._remove(completed)
        self._show_time_left()

    def _bar(self, spec: TrainingSpec) -> TaskID:
        if spec not in self._trainings:
            self._trainings[spec] = self._current.add_task(_training_name(spec), total=spec.epochs, state="starting")
        return self._trainings[spec]

    def _remove(self, spec: TrainingSpec) -> None:
        if spec in self._trainings:
            self._current.remove_task(self._trainings.pop(spec))

    def _show_time_left(self) -> None:
        if self._work.done:
            seconds = (time.monotonic() - self._started) * self._work.left / self._work.done
            left = f"about {seconds / 60:.0f} min left" if seconds >= 90 else f"about {seconds:.0f} s left"
            self._overall.update(self._cells, left=left)


def _training_name(spec: TrainingSpec) -> str:
    without = f" without {spec.held_out}" if spec.in_rotation else ""
    return f"{spec.label} · {spec.profile}{without} · seed {spec.seed}"


def _cell_name(result: CellResult) -> str:
    without = "" if result.held_out is None else f" without {result.held_out}"
    return f"{result.model} × {result.task}{without} · seed {result.seed}"
