"""Evaluates a task on a trained model: checks what the task returns and renders its pictures."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Mapping

import torch

from aebench.contracts import (
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    ReferenceClassifier,
    SamplerRecord,
    Skip,
    TaskRecord,
)
from aebench.errors import AebenchError
from aebench.evaluation.rendering import render
from aebench.planning.cells import CellResult, Status
from aebench.planning.specs import EvaluationSpec
from aebench.training.fast_products import fast_products

LARGEST_METRIC = 1e100


def evaluate(
    task: TaskRecord,
    spec: EvaluationSpec,
    model: Autoencoder,
    data: ImageDataset,
    device: torch.device,
    fresh_model: Callable[[], Autoencoder],
    reference_classifier: ReferenceClassifier | None,
    samplers: Mapping[str, SamplerRecord | Skip],
) -> tuple[CellResult, dict[str, bytes]]:
    """Evaluate one cell; return its result, and its pictures and tables as file contents by file name.

    Args:
        task: the task to evaluate.
        spec: the cell: parameters of the task, seed, and training.
        model: trained, frozen, in evaluation mode, on `device`.
        data: the data set, on `device`.
        device: where to compute.
        fresh_model: builds an untrained model of the same architecture on `device`.
        reference_classifier: that of the data set, passed to a task that needs it; None if there is none.
        samplers: by name, those that the task asks for, or why the model has no such samples.

    Raises:
        AebenchError: the task returns other metrics than it declares, or a picture or table whose name cannot be a
            file name.
        Exception: any exception of the task or the model.
    """
    started = time.perf_counter()
    context = Context(
        params=task.params.model_validate(spec.params, strict=False),
        device=device,
        seed=spec.seed,
        held_out=spec.training.held_out,
        reference_classifier=reference_classifier if task.needs_reference_classifier else None,
        fresh_model=fresh_model,
        samplers=samplers,
    )
    with fast_products(device), torch.no_grad():
        evaluation = task.evaluate(model, data, context)
    _check(task, evaluation)
    metrics = {name: _within_range(float(value)) for name, value in evaluation.metrics.items()}
    drawing_started = time.perf_counter()
    files = render(evaluation)
    ended = time.perf_counter()
    result = CellResult.of(
        spec,
        Status.OK,
        metrics=metrics,
        absent=dict(evaluation.absent),
        seconds=ended - started,
        drawing_seconds=ended - drawing_started,
    )
    return result, files


def _within_range(value: float) -> float:
    """The value; infinity beyond what statistics can square and add."""
    return math.copysign(math.inf, value) if abs(value) > LARGEST_METRIC else value


def _check(task: TaskRecord, evaluation: Evaluation) -> None:
    for name in (*evaluation.images, *evaluation.figures, *evaluation.tables):
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
            raise AebenchError(
                f"task '{task.name}' returned a file named {name!r}; use at most 100 letters, digits, '_' and '-'"
            )
    declared = {metric.name for metric in task.metrics}
    returned = [*evaluation.metrics, *evaluation.absent]
    if sorted(declared) != sorted(returned):
        raise AebenchError(
            f"task '{task.name}' declares the metrics {sorted(declared)} but returned {sorted(returned)}"
        )
