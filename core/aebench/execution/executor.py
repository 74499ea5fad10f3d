"""What the scheduler asks of an engine; everything that engines share is the scheduler's."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Protocol, Self

from aebench.execution.events import Event
from aebench.execution.jobs import Job


class Executor(Protocol):
    """Runs jobs somewhere; a context manager whose exit cancels what still runs.

    A job that was taken ends with exactly one Succeeded or Failed event, unless it is cancelled.
    """

    def __enter__(self) -> Self: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """End all workers, whatever they do."""
        ...

    def offer(self, jobs: Sequence[Job]) -> Sequence[Job]:
        """Take those of these jobs that can start now, in their order; returns what was taken."""
        ...

    def events(self, timeout: float) -> Sequence[Event]:
        """What has happened since the last call, waiting at most `timeout` seconds for something to happen."""
        ...

    def cancel(self, job_id: str) -> None:
        """End a job that was taken; no event of it comes from then on."""
        ...
