"""The local engine: worker processes on this machine, each with its own pipe, so that a dead worker harms no other.

Only one thread may use an engine. It reports failures; the scheduler decides what follows from them.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf
from multiprocessing import connection
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Self

from aebench.errors import one_line
from aebench.execution.allocation import WorkerRole
from aebench.execution.artifacts import FolderStore, Ref
from aebench.execution.events import Cause, Event, Failed, Stopped, Succeeded
from aebench.execution.guardian import Guardian
from aebench.execution.job_output import collect_output, output_path, trim
from aebench.execution.jobs import Job
from aebench.execution.memory import default_worker_memory, private_memory
from aebench.execution.worker import Ready, Stop, WorkerConfig, WorkerProcess, start_worker, worker_name
from aebench.execution.worker_end import GRACE_SECONDS, death_of, kill, wait_for_exit
from aebench.memory import format_bytes
from aebench.planning.specs import TrainingSpec

STARTUP_SECONDS = 300.0  # loading plugins, preparing for slow tasks
STARTUP_ATTEMPTS = 5  # consecutive failures after which no more workers of a role are started
CHECK_SECONDS = 1.0  # between two looks at what the workers use


@dataclass(eq=False)
class _Worker:
    """A process, the pipe to it, and the jobs it has taken and not finished, by id."""

    role: WorkerRole
    process: WorkerProcess
    pipe: Connection
    started: float
    ready: bool = False
    used: bool = False
    jobs: dict[str, Job] = field(default_factory=dict)

    @property
    def has_room(self) -> bool:
        return self.ready and len(self.jobs) < self.role.concurrent


class LocalExecutor:
    """Runs jobs in worker processes.

    Args:
        config: the configuration of every worker, except for what its role decides.
        roles: the workers that may be started.
        worker_memory: what each of them may use, in bytes; None for an equal share of the machine's.
    """

    def __init__(self, config: WorkerConfig, roles: Sequence[WorkerRole], worker_memory: int | None = None) -> None:
        self._config = config
        self._artifacts = FolderStore(config.artifacts)
        self._roles = list(roles)
        # An exporter holds one model without images, so the others share the memory.
        self._worker_memory = worker_memory or default_worker_memory(
            sum(role.count for role in roles if role.trains or role.evaluates)
        )
        self._checked_at = -inf
        self._guardian: Guardian | None = None
        self._workers: list[_Worker] = []
        self._events: list[Event] = []
        self._startup_failures: Counter[WorkerRole] = Counter()
        self._startup_failure = Failed("", "")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for worker in self._workers:
            worker.pipe.close()  # a worker without a job exits by itself
            if worker.jobs or not worker.ready:
                kill(worker.process)
        for worker in self._workers:
            wait_for_exit(worker.process)
        self._workers.clear()
        if self._guardian is not None:
            self._guardian.close()
            self._guardian = None
        shutil.rmtree(self._config.output, ignore_errors=True)

    def offer(self, jobs: Sequence[Job]) -> Sequence[Job]:
        taken, remaining = [], []
        for job in jobs:
            if not any(role.accepts(job, self._slow_tasks) for role in self._roles):
                self._events.append(replace(self._startup_failure, job_id=job.id))
                taken.append(job)
            elif (worker := self._worker_for(job)) is not None and self._send(worker, job):
                taken.append(job)
            else:
                remaining.append(job)
        self._start_workers(remaining)
        return taken

    def events(self, timeout: float) -> Sequence[Event]:
        pipes = {worker.pipe: worker for worker in self._workers}
        for pipe in connection.wait(list(pipes), 0 if self._events else timeout):
            self._receive(pipes[pipe])  # type: ignore[index]
        for worker in list(self._workers):
            if worker.process.exitcode is not None:  # the pipe stays open as long as a process that it forked
                self._receive_the_rest(worker)
            elif not worker.ready and time.monotonic() - worker.started > STARTUP_SECONDS:
                self._lose(worker, f"a worker process was not ready after {STARTUP_SECONDS:g} s")
        self._check_resources()
        events, self._events = self._events, []
        return events

    def stop(self) -> None:
        for worker in self._workers:
            if worker.jobs:
                with suppress(OSError):  # the worker has died; `events` reports it
                    worker.pipe.send(Stop())

    def cancel(self, job_id: str, reason: str) -> Failed:
        self._events = [event for event in self._events if event.job_id != job_id]
        cause = Cause.ENGINE
        for worker in self._workers:
            if job_id in worker.jobs:
                del worker.jobs[job_id]
                self._lose(worker, "another job in the same worker process timed out")
                cause = Cause.ENGINE if worker.role.concurrent > 1 else Cause.PLUGIN
                break
        return Failed(job_id, reason, cause=cause, artifacts=self._collect_output(job_id))

    def _check_resources(self) -> None:
        """End workers that use too much memory, and shorten what jobs have printed."""
        if time.monotonic() - self._checked_at < CHECK_SECONDS:
            return
        self._checked_at = time.monotonic()
        for worker in list(self._workers):
            for job_id in worker.jobs:
                trim(output_path(self._config.output, job_id))
            used = private_memory(worker.process.pid or 0)
            if used > self._worker_memory:
                limit = format_bytes(self._worker_memory)
                self._lose(
                    worker,
                    f"the worker process used {format_bytes(used)} of memory, more than its limit of {limit} "
                    "(--worker-memory)",
                )

    def _collect_output(self, name: str) -> dict[str, Ref]:
        """What a worker left in the output file of this name, as an artifact by name."""
        return collect_output(self._artifacts, output_path(self._config.output, name))

    @property
    def _slow_tasks(self) -> frozenset[str]:
        return frozenset().union(*(role.prepares for role in self._roles))

    def _worker_for(self, job: Job) -> _Worker | None:
        """A worker that can start the job now, preferably one that is not prepared for slow tasks."""
        if self._must_wait(job):
            return None
        candidates = [
            worker for worker in self._workers if worker.has_room and worker.role.accepts(job, self._slow_tasks)
        ]
        if job.exclusive:  # what earlier jobs have left in a process must not harm it
            fresh = [worker for worker in candidates if not worker.used]
            if candidates and not fresh:
                self._lose(candidates[0], "")  # `_start_workers` replaces it
            candidates = fresh
        return min(candidates, key=lambda worker: len(worker.role.prepares), default=None)

    def _must_wait(self, job: Job) -> bool:
        """Whether a training cannot start yet, because it, or one that is running, must run alone on the device."""
        if not isinstance(job.spec, TrainingSpec) or not any(role.only_retries for role in self._roles):
            return False
        return any(
            worker.role.only_retries != job.exclusive
            and any(isinstance(j.spec, TrainingSpec) for j in worker.jobs.values())
            for worker in self._workers
        )

    def _send(self, worker: _Worker, job: Job) -> bool:
        try:
            worker.pipe.send(job)
        except OSError:
            return False  # the worker has died; `events` reports it
        worker.jobs[job.id] = job
        worker.used = True
        return True

    def _start_workers(self, remaining: Sequence[Job]) -> None:
        """Start workers for the jobs that no worker has taken, within the limits of the roles."""
        waiting = [job for job in remaining if not self._must_wait(job)]
        for role in self._roles:
            own = [worker for worker in self._workers if worker.role is role]
            room = sum(role.concurrent - len(worker.jobs) for worker in own)
            accepted = [job for job in waiting if role.accepts(job, self._slow_tasks)]
            while len(own) < role.count and len(accepted) > room:
                try:
                    own.append(self._start(role))
                except (OSError, EOFError) as error:  # the server that forks workers has died
                    failure = Failed("", f"no worker process could be started: {one_line(error)}")
                    self._handle_startup_failure(role, failure)
                    return
                room += role.concurrent
            assigned = set(accepted[:room])
            waiting = [job for job in waiting if job not in assigned]

    def _start(self, role: WorkerRole) -> _Worker:
        config = replace(
            self._config,
            device="cpu" if role.exports else self._config.device,
            prepares=tuple(sorted(role.prepares)),
            concurrent=role.concurrent,
        )
        worker = _Worker(role, *start_worker(config), started=time.monotonic())
        self._workers.append(worker)
        if sys.platform == "linux":
            self._guardian = self._guardian or Guardian()
            self._guardian.add(worker.process.pid or 0)
        return worker

    def _receive(self, worker: _Worker) -> None:
        try:
            message: Ready | Event = worker.pipe.recv()
        except (EOFError, OSError):
            worker.process.join(GRACE_SECONDS)
            self._lose(worker, death_of(worker.process))
            return
        if isinstance(message, Ready):
            worker.ready = True
            del self._startup_failures[worker.role]
            return
        if isinstance(message, Succeeded | Failed | Stopped):
            worker.jobs.pop(message.job_id, None)
        self._events.append(message)
        if isinstance(message, Failed) and worker.role.only_retries:
            self._lose(worker, "")  # the next retry gets a process in which nothing has failed

    def _receive_the_rest(self, worker: _Worker) -> None:
        """Receive what a worker sent before it died."""
        while worker in self._workers and worker.pipe.poll():
            self._receive(worker)
        if worker in self._workers:
            self._lose(worker, death_of(worker.process))

    def _lose(self, worker: _Worker, reason: str) -> None:
        """End and remove a worker; report its jobs as failed. `offer` starts another worker if a job needs one."""
        self._workers.remove(worker)
        worker.pipe.close()
        kill(worker.process)
        wait_for_exit(worker.process)
        if self._guardian is not None:
            self._guardian.remove(worker.process.pid or 0)
        self._events += [
            Failed(job_id, reason, cause=Cause.ENGINE, artifacts=self._collect_output(job_id)) for job_id in worker.jobs
        ]
        printed = self._collect_output(worker_name(worker.process.pid or 0))
        if not worker.ready:
            self._handle_startup_failure(worker.role, Failed("", reason, artifacts=printed))

    def _handle_startup_failure(self, role: WorkerRole, failure: Failed) -> None:
        """Start no more workers of a role that cannot start; one that prepares for slow tasks first stops preparing."""
        self._startup_failure = failure
        self._startup_failures[role] += 1
        if role.prepares:
            self._replace_role(role, replace(role, prepares=frozenset()))
        elif self._startup_failures[role] >= STARTUP_ATTEMPTS:
            ready = sum(worker.ready for worker in self._workers if worker.role is role)
            self._replace_role(role, replace(role, count=ready))

    def _replace_role(self, old: WorkerRole, new: WorkerRole) -> None:
        """Change a role for its workers, too; a role without workers is removed."""
        self._roles = [new if role is old else role for role in self._roles if role is not old or new.count]
        for worker in self._workers:
            if worker.role is old:
                worker.role = new
