"""The events of jobs; every event names its job by id."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from aebench.execution.artifacts import Ref
from aebench.planning.cells import CellResult
from aebench.training.records import EpochLosses, TrainingResult


class Cause(StrEnum):
    """The cause of a failure: PLUGIN if the job would fail the same way again, ENGINE if it might not."""

    PLUGIN = "plugin"
    ENGINE = "engine"


@dataclass(frozen=True)
class Started:
    """A worker has started the job."""

    job_id: str


@dataclass(frozen=True)
class Progress:
    """An epoch of a training is done."""

    job_id: str
    losses: EpochLosses


@dataclass(frozen=True)
class Checkpointed:
    """The state of a training is in the store of artifacts; a job with it as an input goes on from there.

    Attributes:
        job_id: the training.
        ref: its state. The scheduler discards it when the training has ended or has a newer one.
        epoch: number of its epochs that are complete.
    """

    job_id: str
    ref: Ref
    epoch: int


@dataclass(frozen=True)
class CheckpointFailed:
    """A checkpoint could not be written, or not be used; `error` says why, and the training goes on or starts anew."""

    job_id: str
    error: str


@dataclass(frozen=True)
class Succeeded:
    """The job is done.

    Attributes:
        job_id: the job.
        result: of the training or of the evaluation; None for an export.
        artifacts: by name; what the job printed is `OUTPUT`.
        notes: what a user should know, a line each, such as the side effects that were undone.
    """

    job_id: str
    result: TrainingResult | CellResult | None
    artifacts: Mapping[str, Ref] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Failed:
    """The job failed.

    Attributes:
        job_id: the job.
        error: what was wrong, on one line.
        traceback: of the exception that caused it; empty without one.
        cause: whether another attempt could help.
        failed_dependency: id of the job whose failure caused this one; empty if the job itself failed.
        artifacts: by name; what the job printed is `OUTPUT`.
        notes: as for `Succeeded`.
    """

    job_id: str
    error: str
    traceback: str = ""
    cause: Cause = Cause.PLUGIN
    failed_dependency: str = ""
    artifacts: Mapping[str, Ref] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RetryScheduled:
    """The job failed with this error and will run again, alone."""

    job_id: str
    error: str


@dataclass(frozen=True)
class Stopped:
    """The job has ended without a result because the run is to end; a later run can do it, or go on with it."""

    job_id: str


Event = Started | Progress | Checkpointed | CheckpointFailed | Succeeded | Failed | RetryScheduled | Stopped
Emit = Callable[[Event], None]


@dataclass(frozen=True)
class Draining:
    """The scheduler starts no more jobs, and those with these ids are about to end."""

    running: tuple[str, ...]
