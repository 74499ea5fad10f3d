"""The interface between the scheduler and an engine; what all engines have in common is in the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from aebench.execution.events import Event, Failed
from aebench.execution.jobs import Job


class Executor(Protocol):
    """Runs jobs somewhere; a context manager whose exit cancels what still runs.

    A job that was taken ends with exactly one Succeeded, Failed or Stopped event, unless it is cancelled.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End all workers, also those that run jobs."""
        ...

    def offer(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Start those of these jobs that can start now, in their order; return the jobs that were taken."""
        ...

    def events(self, timeout: float) -> Sequence[Event]:
        """The events since the last call; wait at most `timeout` seconds for the first one."""
        ...

    def stop(self) -> None:
        """Ask all trainings to end after their current turn, with a Checkpointed and a Stopped event.

        Evaluations run to their end. No job is offered after this.
        """
        ...

    def cancel(self, job_id: str, reason: str) -> Failed:
        """End a job that was taken; it produces no further event.

        Returns:
            The failure for this reason; its cause is ENGINE if jobs beside it may have kept it from progress, so that
            it is worth another attempt alone.
        """
        ...
