"""The result of one cell of the matrix, as workers report it, stores keep it and tables show it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from aebench.planning.specs import EvaluationSpec, cell_key


class Status(StrEnum):
    """How a cell ended; PENDING before it has run."""

    OK = "ok"
    SKIPPED = "skipped"
    FAILED = "failed"
    PENDING = "pending"


@dataclass(frozen=True)
class CellResult:
    """The result of one task on one model for one seed.

    Attributes:
        model: label of the row.
        task: name of the column.
        seed: which repetition, from 0.
        held_out: the class left out of training, where several are held out in rotation; else None.
        status: how it ended.
        reason: why it was skipped or failed, in one line; empty otherwise.
        traceback: of the exception behind a failure; empty without one, and when read from a store.
        metrics: values by name, for a cell that is ok.
        absent: for each metric that could not be computed, why.
        seconds: wall time of the evaluation; 0 when read from a store.
        drawing_seconds: the part of `seconds` that its pictures took.
    """

    model: str
    task: str
    seed: int
    held_out: int | None
    status: Status
    reason: str = ""
    traceback: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    drawing_seconds: float = 0.0

    @classmethod
    def of(cls, spec: EvaluationSpec, status: Status, **found: Any) -> CellResult:
        """The result of the cell that `spec` asks for; `found` are further attributes."""
        training = spec.training
        return cls(training.label, spec.task, training.seed, spec.held_out_in_rotation, status, **found)

    @property
    def key(self) -> str:
        """Identifies the cell among those of its row and seed, see `cell_key`."""
        return cell_key(self.task, self.held_out)
