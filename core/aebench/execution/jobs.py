"""Jobs, the work of an engine: a training, or an evaluation or an export that needs the weights of one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

from aebench.execution.artifacts import Ref
from aebench.planning.specs import EvaluationSpec, ExportSpec, TrainingSpec

# names of inputs and results
DATA, REFERENCE_CLASSIFIER = "data", "reference_classifier"
WEIGHTS, CHECKPOINT, PROGRAM = "weights", "checkpoint", "program"

EXPORT_SECONDS = 300.0  # an export takes a second, and the first one in a process some more


@dataclass(frozen=True, eq=False)
class Job:
    """One training, one evaluation or one export.

    Attributes:
        id: unique in a run: the row's label and the content hash of the spec.
        spec: what to train, evaluate or export.
        inputs: artifacts by name.
        needs: for each input that another job produces under the same name, that job's id.
        weight: its relative duration among jobs of its kind; the longest are started first.
        timeout: seconds that an evaluation, an export, or one epoch of a training, may take.
        exclusive: no other job may run in its process.
        checkpoint_every: seconds after which a training saves its state, again and again; None for never.
    """

    id: str
    spec: TrainingSpec | EvaluationSpec | ExportSpec
    inputs: Mapping[str, Ref] = field(default_factory=dict)
    needs: Mapping[str, str] = field(default_factory=dict)
    weight: float = 1.0
    timeout: float | None = None
    exclusive: bool = False
    checkpoint_every: float | None = None


def build_jobs(
    cells: Sequence[EvaluationSpec],
    inputs: Mapping[str, Ref],
    weights: Mapping[str, Ref],
    slow_tasks: Collection[str],
    timeout: float | None,
    *,
    checkpoints: Mapping[str, Ref] = MappingProxyType({}),
    checkpoint_every: float | None = None,
) -> list[Job]:
    """The jobs that produce the results of these cells.

    Args:
        cells: the cells to evaluate.
        inputs: artifacts that every job gets, by name.
        weights: stored weights, by the hash of their training.
        slow_tasks: names of tasks that take longer than the others.
        timeout: seconds that an evaluation, or one epoch of a training, may take.
        checkpoints: states from which trainings go on, by the hash of the training.
        checkpoint_every: seconds after which a training saves its state; None for never.
    """
    jobs: dict[str, Job] = {}
    for cell in cells:
        training = cell.training
        training_id = f"{training.label}:{training.hash}"
        own, needs = dict(inputs), {}
        if training.hash in weights:
            own[WEIGHTS] = weights[training.hash]
        else:
            if training_id not in jobs:
                saved = {CHECKPOINT: checkpoints[training.hash]} if training.hash in checkpoints else {}
                jobs[training_id] = Job(
                    training_id,
                    training,
                    {**inputs, **saved},
                    weight=training.epochs,
                    timeout=timeout,
                    checkpoint_every=checkpoint_every,
                )
            needs[WEIGHTS] = training_id
        cell_id = f"{training.label}:{cell.hash}"
        weight = 2.0 if cell.task in slow_tasks else 1.0
        jobs[cell_id] = Job(cell_id, cell, own, needs, weight, timeout)
    return list(jobs.values())


def build_exports(jobs: Iterable[Job], input_shape: tuple[int, int, int]) -> list[Job]:
    """The jobs that export the models of these trainings, whose images have the shape (C, H, W)."""
    return [
        Job(
            f"{job.id}:export",
            ExportSpec(job.spec, input_shape),
            needs={WEIGHTS: job.id},
            timeout=EXPORT_SECONDS,
        )
        for job in jobs
        if isinstance(job.spec, TrainingSpec)
    ]
