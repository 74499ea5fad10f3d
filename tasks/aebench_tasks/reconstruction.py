"""How well a model returns unseen images."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional

from aebench.contracts import (
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    TaskRecord,
    binary_cross_entropy,
    hookimpl,
)
from aebench_tasks.drawing import labelled_rows

if TYPE_CHECKING:
    from matplotlib.figure import Figure

AEBENCH_CONTRACT = 1

PICTURED = 16


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Mean test BCE, with the deterministic code and with a sampled one, mean squared error, and sixteen examples."""
    generator = context.generator()
    cross_entropy = stochastic_cross_entropy = squared_error = 0.0
    for x in data.test.batches():
        logits = model.reconstruct_logits(x)
        cross_entropy += float(binary_cross_entropy(logits, x).sum())
        squared_error += float(functional.mse_loss(torch.sigmoid(logits), x)) * len(x)
        stochastic = model.reconstruct_logits(x, stochastic=True, generator=generator)
        stochastic_cross_entropy += float(binary_cross_entropy(stochastic, x).sum())
    n = len(data.test)
    return Evaluation(
        metrics={
            "bce": cross_entropy / n,
            "bce_stochastic": stochastic_cross_entropy / n,
            "mse": squared_error / n,
        },
        figures={"reconstructions": _examples(model, data.test.x(_pick(context, n)))},
    )


def _pick(context: Context, n: int) -> Tensor:
    chosen = context.rng().choice(n, size=min(PICTURED, n), replace=False)
    return torch.from_numpy(chosen).to(context.device)


def _examples(model: Autoencoder, x: Tensor) -> Figure:
    rows = []
    for images in x.split(PICTURED // 2):
        rows += [("test image", images), ("reconstruction", model.reconstruct(images))]
    return labelled_rows(rows)


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="reconstruction",
            title="Reconstruction",
            summary="how well unseen images come back",
            params=Params,
            evaluate=evaluate,
            metrics=(
                Metric("bce", "Binary cross-entropy", "nats/image", higher_is_better=False, primary=True),
                Metric("bce_stochastic", "Binary cross-entropy of sampled codes", "nats/image", higher_is_better=False),
                Metric("mse", "Mean squared error per pixel", higher_is_better=False),
            ),
        )
    ]
