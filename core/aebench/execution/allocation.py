"""Chooses the worker processes for a device: how many, and which jobs each of them takes."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from aebench.execution.devices import cores
from aebench.execution.jobs import Job
from aebench.planning.specs import ExportSpec, TrainingSpec

# A network of this size fills a few per cent of a large GPU.
CONCURRENT_TRAININGS = 8
MOST_EVALUATORS = 8
BYTES_PER_EVALUATOR = 2**31  # on a CUDA device: a context of its own, the data, and what a task allocates


@dataclass(frozen=True, eq=False)
class WorkerRole:
    """Workers that take the same jobs.

    Attributes:
        count: the largest number of workers; a worker starts when there is a job for it.
        trains: takes trainings.
        evaluates: takes evaluations.
        exports: takes exports.
        prepares: names of tasks that are slow to start: workers of this role call their `warm_up`, and only these
            workers evaluate them.
        concurrent: number of jobs that take turns in each worker.
        only_retries: takes only trainings that must run alone on the device.
    """

    count: int
    trains: bool = True
    evaluates: bool = True
    exports: bool = False
    prepares: frozenset[str] = frozenset()
    concurrent: int = 1
    only_retries: bool = False

    def accepts(self, job: Job, slow_tasks: frozenset[str]) -> bool:
        """Whether workers of this role take this job."""
        if isinstance(job.spec, ExportSpec):
            return self.exports
        if isinstance(job.spec, TrainingSpec):
            return (
                self.trains and (self.concurrent == 1 or not job.exclusive) and (job.exclusive or not self.only_retries)
            )
        return self.evaluates and (job.spec.task not in slow_tasks or job.spec.task in self.prepares)


EXPORTER = WorkerRole(1, trains=False, evaluates=False, exports=True)


def allocate(device: torch.device, slow_tasks: frozenset[str], jobs: int | None = None) -> tuple[WorkerRole, ...]:
    """The workers that suit a device.

    On the CPU there is one worker for each core: with networks of this size, two trainings with one thread each are
    faster than one training with two threads. On CUDA one worker trains several models, which share the device, and
    others evaluate. Half of the evaluating workers prepare for slow tasks; the other half is ready earlier. One more
    worker exports models, so that only one process loads what PyTorch needs for that.

    Args:
        device: where jobs run.
        slow_tasks: names of the tasks that are slow to start.
        jobs: number of concurrent trainings; None for the default of the device.
    """
    if device.type == "cpu":
        return (*_split(WorkerRole(jobs or cores()), slow_tasks), EXPORTER)
    free, _ = torch.cuda.mem_get_info(device)
    for_evaluators = free // 2
    evaluators = max(1, min(cores() - 1, MOST_EVALUATORS, for_evaluators // BYTES_PER_EVALUATOR))
    return (
        WorkerRole(1, evaluates=False, concurrent=jobs or CONCURRENT_TRAININGS),
        WorkerRole(1, evaluates=False, only_retries=True),
        *_split(WorkerRole(evaluators, trains=False), slow_tasks),
        EXPORTER,
    )


def _split(role: WorkerRole, slow_tasks: frozenset[str]) -> tuple[WorkerRole, ...]:
    """The same workers; if there are slow tasks, half of them prepare for these and come last."""
    prepared = (role.count + 1) // 2 if slow_tasks else 0
    roles = (
        replace(role, count=role.count - prepared),
        replace(role, count=prepared, prepares=slow_tasks),
    )
    return tuple(role for role in roles if role.count)
