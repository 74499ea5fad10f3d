"""Evaluates a task on a trained model: checks what the task returns and renders its pictures."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import torch

from aebench.contracts import (
    Autoencoder,
    Context,
    ImageDataset,
    ReferenceClassifier,
    SamplerRecord,
    Skip,
    TaskRecord,
)
from aebench.evaluation.rendering import render
from aebench.evaluation.returned_values import checked_metrics
from aebench.planning.cells import CellResult, Status
from aebench.planning.specs import EvaluationSpec
from aebench.training.fast_products import fast_products
from aebench.training.optimizers import adam


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
        AebenchError: the task returns something else than the contract says, see `checked_metrics`.
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
        adam=adam,
        samplers=samplers,
    )
    with fast_products(device), torch.no_grad():
        evaluation = task.evaluate(model, data, context)
    metrics = checked_metrics(task, evaluation)
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
