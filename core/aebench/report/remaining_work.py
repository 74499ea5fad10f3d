"""How much of a run's work is still to be done, in epochs, for an estimate of the time left."""

from __future__ import annotations

from collections.abc import Iterable

from aebench.planning.cells import CellResult
from aebench.planning.specs import EvaluationSpec, TrainingSpec

EPOCHS_PER_CELL = 5  # roughly what an evaluation takes, in epochs


class RemainingWork:
    """Counts down the epochs of trainings and the cells of a run.

    Args:
        trainings: those that are trained in this run.
        cells: those that are evaluated in this run.
    """

    def __init__(self, trainings: Iterable[TrainingSpec], cells: Iterable[EvaluationSpec]) -> None:
        self._epochs = {training: training.epochs for training in trainings}
        self._cells = {(cell.training.label, cell.training.seed, cell.key): cell.training for cell in cells}
        self._total = self.left

    @property
    def left(self) -> int:
        """Epochs still to be done, each cell counted as `EPOCHS_PER_CELL`."""
        return sum(self._epochs.values()) + EPOCHS_PER_CELL * len(self._cells)

    @property
    def done(self) -> int:
        """Epochs done, counted in the same way; an epoch that a retry repeats counts once."""
        return self._total - self.left

    def epoch_done(self, training: TrainingSpec, epoch: int) -> None:
        """Record that a training has completed `epoch`, counted from 1."""
        self._epochs[training] = min(self._epochs[training], training.epochs - epoch)

    def training_done(self, training: TrainingSpec) -> None:
        """Record that a training is complete."""
        self._epochs[training] = 0

    def cell_done(self, result: CellResult) -> TrainingSpec | None:
        """Record a cell; returns its training if that was the last of its cells.

        The training then counts as complete, also when it failed.
        """
        training = self._cells.pop((result.model, result.seed, result.key))
        if training in self._cells.values():
            return None
        if training in self._epochs:
            self._epochs[training] = 0
        return training
