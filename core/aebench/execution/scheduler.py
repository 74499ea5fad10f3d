"""The only scheduler: order, dependencies, retries, time limits, and the failures of dependent jobs."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from aebench.execution.artifacts import Ref
from aebench.execution.events import (
    Cause,
    Checkpointed,
    CheckpointFailed,
    Draining,
    Event,
    Failed,
    Progress,
    RetryScheduled,
    Started,
    Stopped,
    Succeeded,
)
from aebench.execution.executor import Executor
from aebench.execution.jobs import CHECKPOINT, Job
from aebench.planning.specs import TrainingSpec

ATTEMPTS = 2
LONGEST_WAIT = 0.5  # seconds; a stop takes effect after at most this time


class Scheduler:
    """Runs jobs on an engine, each as soon as the jobs it needs have succeeded.

    Evaluations and exports come before trainings, so that results appear early, and longer jobs before shorter ones. A
    job whose failure may not recur is retried once, alone; a training goes on from its newest checkpoint. A job that
    makes no progress within its time limit is cancelled. Jobs that need a failed job fail with it.

    Args:
        jobs: the jobs to run, including every job that another one needs.
        executor: the engine that runs them.
        should_stop: asked at least twice a second; ends the work at once.
        should_drain: asked as often; starts no more jobs, lets trainings save their state and end, and other jobs run
            to their end.
        discard: called with each checkpoint that no job needs any more.
        clock: the time in seconds.
    """

    def __init__(
        self,
        jobs: Iterable[Job],
        executor: Executor,
        should_stop: Callable[[], bool] = lambda: False,
        should_drain: Callable[[], bool] = lambda: False,
        discard: Callable[[Ref], None] = lambda ref: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._waiting = {job.id: job for job in jobs}
        self._ready: list[Job] = []
        self._running: dict[str, Job] = {}
        self._deadlines: dict[str, float] = {}
        self._attempts: Counter[str] = Counter()
        self._executor = executor
        self._checkpoints: dict[str, Ref] = {}  # the newest one of each training that has not ended
        self._draining = False
        self._should_stop = should_stop
        self._should_drain = should_drain
        self._discard = discard
        self._clock = clock

    def run(self) -> Iterator[Event | Draining]:
        """Run all jobs and yield their events.

        Every job ends with one Succeeded or Failed event. Once the work drains, a job that runs may end with Stopped,
        and jobs that have not started have no events.
        """
        for job in list(self._waiting.values()):
            if not job.needs:
                self._make_ready(job)
        with self._executor:
            while (self._running or (self._ready and not self._draining)) and not self._should_stop():
                if not self._draining and self._should_drain():
                    self._draining = True
                    self._executor.stop()
                    yield Draining(tuple(self._running))
                if not self._draining:
                    for job in self._executor.offer(self._ready):
                        self._ready.remove(job)
                        self._running[job.id] = job
                events = self._executor.events(self._wait_seconds())
                received = time.monotonic()
                for event in events:
                    yield from self._handle(event)
                if time.monotonic() - received < LONGEST_WAIT:  # else more events may have arrived meanwhile
                    yield from self._cancel_overdue()

    def _make_ready(self, job: Job) -> None:
        self._waiting.pop(job.id, None)
        if CHECKPOINT in job.inputs:
            self._checkpoints[job.id] = job.inputs[CHECKPOINT]
        self._ready.append(job)
        self._ready.sort(key=lambda job: (isinstance(job.spec, TrainingSpec), -job.weight))

    def _handle(self, event: Event) -> Iterator[Event]:
        job = self._running.get(event.job_id)
        if job is None:
            return  # it was cancelled
        match event:
            case Started() | Progress():
                if job.timeout is not None:
                    self._deadlines[job.id] = self._clock() + job.timeout
                yield event
            case Checkpointed():
                self._replace_checkpoint(job, event.ref)
                yield event
            case CheckpointFailed():
                yield event
            case Stopped():
                self._remove_running(job)
                yield event
            case Succeeded():
                self._remove_running(job)
                self._replace_checkpoint(job, None)
                yield event
                self._release(job, event)
            case Failed():
                self._remove_running(job)
                yield from self._fail(job, event)

    def _release(self, done: Job, event: Succeeded) -> None:
        """Pass the artifacts of a job to the jobs that need them."""
        for job in list(self._waiting.values()):
            found = {name: event.artifacts[name] for name, source in job.needs.items() if source == done.id}
            if found:
                job = replace(job, inputs={**job.inputs, **found})
                self._waiting[job.id] = job
                if job.needs.keys() <= job.inputs.keys():
                    self._make_ready(job)

    def _replace_checkpoint(self, job: Job, new: Ref | None) -> None:
        """Note the newest checkpoint of a job, and discard the former one."""
        former = self._checkpoints.pop(job.id, None)
        if new is not None:
            self._checkpoints[job.id] = new
        if former is not None and former not in self._checkpoints.values():  # the same content is the same reference
            self._discard(former)

    def _fail(self, job: Job, event: Failed) -> Iterator[Event]:
        self._attempts[job.id] += 1
        if event.cause is Cause.ENGINE and self._attempts[job.id] < ATTEMPTS:
            if self._draining:
                yield Stopped(job.id)
                return
            checkpoint = {CHECKPOINT: self._checkpoints[job.id]} if job.id in self._checkpoints else {}
            self._make_ready(replace(job, exclusive=True, inputs={**job.inputs, **checkpoint}))
            yield RetryScheduled(job.id, event.error)
            return
        self._replace_checkpoint(job, None)
        yield event
        for dependent in [other for other in self._waiting.values() if job.id in other.needs.values()]:
            del self._waiting[dependent.id]
            origin = event.failed_dependency or job.id
            failed = replace(event, job_id=dependent.id, cause=Cause.PLUGIN, failed_dependency=origin)
            yield from self._fail(dependent, failed)

    def _cancel_overdue(self) -> Iterator[Event]:
        """Cancel what has made no progress within its time limit."""
        now = self._clock()
        for job_id in [job_id for job_id, deadline in self._deadlines.items() if deadline <= now]:
            job = self._running[job_id]
            failed = self._executor.cancel(job_id, f"timed out after {job.timeout:g} s")
            self._remove_running(job)
            yield from self._fail(job, failed)

    def _remove_running(self, job: Job) -> None:
        del self._running[job.id]
        self._deadlines.pop(job.id, None)

    def _wait_seconds(self) -> float:
        """Seconds to wait for events: until the next deadline, and not much longer than a stop may wait."""
        nearest = min(self._deadlines.values(), default=float("inf")) - self._clock()
        return max(0.0, min(LONGEST_WAIT, nearest))
