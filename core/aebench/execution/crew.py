"""Who does the work: how many processes train, how many trainings each of them has in hand, and how many evaluate."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from aebench.execution.devices import cores

# A network of this size fills a few per cent of a large GPU.
TRAININGS_SIDE_BY_SIDE = 8
MOST_EVALUATORS = 8
BYTES_PER_EVALUATOR = 2**31  # on a CUDA device: a context of its own, the data, and what a task allocates


@dataclass(frozen=True)
class Crew:
    """Processes by what they do.

    Attributes:
        trainers: processes that train.
        side_by_side: trainings that take turns in each of them.
        evaluators: processes that ask trained models the tasks, at least one. Where there are several, half of them
            prepare for tasks that are slow to start, and only those are given them; the others begin at once.
        trainers_evaluate: trainers ask their own models the tasks that are quick to start, and leave the others to
            the evaluators; otherwise trainers only train.
    """

    trainers: int
    side_by_side: int
    evaluators: int
    trainers_evaluate: bool

    def __post_init__(self) -> None:
        if self.evaluators < 1:
            raise ValueError("somebody has to take the tasks that are slow to start")
        if self.trainers_evaluate and self.side_by_side > 1:
            raise ValueError("a trainer that evaluates keeps its other trainings waiting")

    @classmethod
    def suited_to(cls, device: torch.device, jobs: int | None = None) -> Crew:
        """On the CPU a trainer per core; on CUDA one trainer, whose trainings share the device.

        On networks of this size two trainings on a thread each are faster than two threads on one training.

        Args:
            device: where to work.
            jobs: trainings at once; None for what suits the device.
        """
        if device.type == "cpu":
            return cls(trainers=jobs or cores(), side_by_side=1, evaluators=1, trainers_evaluate=True)
        free, _ = torch.cuda.mem_get_info(device)
        for_evaluators = free // 2
        return cls(
            trainers=1,
            side_by_side=jobs or TRAININGS_SIDE_BY_SIDE,
            evaluators=max(1, min(cores() - 1, MOST_EVALUATORS, for_evaluators // BYTES_PER_EVALUATOR)),
            trainers_evaluate=False,
        )
