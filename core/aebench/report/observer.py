"""The calls by which a run reports its progress; free of rich, so that a run without a terminal needs none of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from aebench.planning.cells import CellResult
from aebench.planning.planner import Plan
from aebench.planning.specs import EvaluationSpec, TrainingSpec
from aebench.training.records import EpochLosses, TrainingResult


class RunObserver(Protocol):
    """Receives the progress of one run: `begin` first, then the other calls in any order, all from one thread."""

    def begin(
        self, plan: Plan, trainings: Sequence[TrainingSpec], cells: Sequence[EvaluationSpec], reused: int
    ) -> None:
        """The run starts.

        Args:
            plan: the whole matrix.
            trainings: those that are trained now.
            cells: those that are evaluated now, also of trainings whose weights are already there.
            reused: number of cells whose results are already there.
        """
        ...

    def training_started(self, spec: TrainingSpec) -> None: ...
    def epoch_done(self, spec: TrainingSpec, losses: EpochLosses) -> None: ...
    def training_done(self, spec: TrainingSpec, result: TrainingResult) -> None: ...

    def training_retried(self, spec: TrainingSpec, reason: str) -> None:
        """A training failed for `reason` and starts again later."""
        ...

    def cell_done(self, result: CellResult) -> None: ...

    def note(self, line: str) -> None:
        """Print one line of text; may be called from another thread."""
        ...
