"""What a model draws from its prior."""

from __future__ import annotations

import torch
from pydantic import Field

from aebench.contracts import (
    Autoencoder,
    Capability,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.distances import mean_pairwise_rmse, nearest_rmse
from aebench_tasks.drawing import grid

AEBENCH_CONTRACT = 1

PICTURED = 16


class SamplingParams(Params):
    """Samples behind the metrics; the picture shows the first sixteen."""

    samples: int = Field(default=1000, ge=PICTURED)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """How near samples come to real images, and how much they differ among themselves."""
    samples = model.sample(context.params.samples, context.generator())
    chosen = context.rng().permutation(len(data.test))[: len(samples)]
    real = data.test.x(torch.from_numpy(chosen).to(context.device))
    return Evaluation(
        metrics={
            "nearest_real_distance": float(nearest_rmse(samples, data.test.x()).mean()),
            "relative_diversity": mean_pairwise_rmse(samples) / mean_pairwise_rmse(real),
        },
        images={"samples": grid(samples[:PICTURED], columns=4)},
    )


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="sampling",
            title="Sampling",
            summary="images drawn from the model's prior",
            params=SamplingParams,
            evaluate=evaluate,
            requires=frozenset({Capability.SAMPLE}),
            metrics=(
                Metric(
                    "nearest_real_distance",
                    "RMS pixel distance to the nearest test image",
                    "RMSE",
                    higher_is_better=False,
                    primary=True,
                ),
                Metric(
                    "relative_diversity",
                    "Mean distance between two samples over that between two test images",
                    higher_is_better=True,
                ),
            ),
        )
    ]
