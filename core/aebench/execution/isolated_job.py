"""One job as a worker runs it, in turns with others: what it changes is undone, and what it prints goes to a file."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from aebench.execution.events import Event, Failed, Succeeded
from aebench.execution.job_output import collect_output, create_output_file, output_path, trim
from aebench.execution.jobs import Job
from aebench.execution.run_job import JobRunner
from aebench.memory import return_freed_memory
from aebench.registry.printed_output import redirected_output
from aebench.registry.side_effects import ProcessState


class IsolatedJob:
    """A job in progress.

    Args:
        job: the job.
        runner: runs it.
        output: the folder of output files.
        emit: called with each event; the last one has what the job printed among its artifacts.
        should_stop: whether a training is to end before its next turn.

    Attributes:
        ran_concurrently: whether another job has run in this process since this one began.
    """

    def __init__(
        self,
        job: Job,
        runner: JobRunner,
        output: Path,
        emit: Callable[[Event], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self.ran_concurrently = False
        self._emit = emit
        self._artifacts = runner.artifacts
        self._path = output_path(output, job.id)
        self._file = create_output_file(self._path)
        self._end: Succeeded | Failed | None = None
        self._notes: dict[str, None] = {}  # in order, each once
        self._steps = runner.steps(job, self._receive, lambda: self.ran_concurrently, should_stop)

    def take_turn(self) -> bool:
        """Run the next step; return whether it was the last one."""
        with redirected_output(self._file):
            before = ProcessState()
            try:
                is_last = next(self._steps, self) is self
                if is_last:
                    gc.collect()  # here, because finalizers of the plugin may print or hang
            finally:
                changed = before.restore()
        self._notes |= dict.fromkeys(f"changed {what}; it was restored" for what in changed)
        if is_last:
            return_freed_memory()
            self._finish()
        else:
            trim(self._path)
        return is_last

    def _receive(self, event: Event) -> None:
        if isinstance(event, Succeeded | Failed):
            self._end = event
        else:
            self._emit(event)

    def _finish(self) -> None:
        os.close(self._file)
        printed = collect_output(self._artifacts, self._path)
        if self._end is not None:
            artifacts = {**self._end.artifacts, **printed}
            self._emit(replace(self._end, artifacts=artifacts, notes=(*self._end.notes, *self._notes)))
