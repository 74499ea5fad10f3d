"""The smallest engine: runs one job after another in this process, unprotected against plugins that crash or hang."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Self

from aebench.execution.events import Event, Failed
from aebench.execution.jobs import Job
from aebench.execution.run_job import JobRunner


class InProcessExecutor:
    """Runs each job when it is offered. A job cannot be interrupted, so time limits have no effect."""

    def __init__(self, runner: JobRunner) -> None:
        self._runner = runner
        self._events: list[Event] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """No job is running."""

    def offer(self, jobs: Sequence[Job]) -> Sequence[Job]:
        for job in jobs[:1]:
            self._runner.run(job, self._events.append)
        return jobs[:1]

    def events(self, timeout: float) -> Sequence[Event]:
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        """No job is running: each has ended when `offer` returns."""

    def cancel(self, job_id: str, reason: str) -> Failed:
        """There is nothing to end: a job has ended when `offer` returns."""
        return Failed(job_id, reason)
