"""What a model draws from its prior."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from aebench.contracts import (
    Autoencoder,
    Capability,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    ReferenceClassifier,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.distances import mean_pairwise_rmse, nearest_rmse
from aebench_tasks.drawing import grid
from aebench_tasks.generated import frechet_distance, kernel_distance, overlap

PICTURED = 16


class SamplingParams(Params):
    """Samples behind the metrics, at most as many as there are test images; and neighbours that an image reaches to."""

    samples: int = Field(default=2000, ge=PICTURED)
    neighbours: int = Field(default=5, gt=0)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """How samples compare with test images: as sets, in what the reference classifier sees in them, and in pixels."""
    size = max(PICTURED, min(context.params.samples, len(data.test)))
    samples = model.sample(size, context.generator())
    chosen = torch.from_numpy(context.rng().permutation(len(data.test))[:size]).to(context.device)
    real = data.test.x(chosen)
    metrics = {
        "nearest_real_distance": float(nearest_rmse(samples, data.test.x()).mean()),
        "relative_diversity": mean_pairwise_rmse(samples) / mean_pairwise_rmse(real),
    }
    measured = (
        {}
        if context.reference_classifier is None
        else _classifier_metrics(context.reference_classifier, samples, real, context.params.neighbours)
    )
    absent = (
        {}
        if measured
        else dict.fromkeys(CLASSIFIER_METRICS, "the data has no labels to train a reference classifier on")
    )
    return Evaluation(metrics | measured, images={"samples": grid(samples[:PICTURED], columns=4)}, absent=absent)


def _classifier_metrics(
    reference_classifier: ReferenceClassifier, samples: Tensor, real: Tensor, neighbours: int
) -> dict[str, float]:
    """The metrics in CLASSIFIER_METRICS; samples and real images (N, C, H, W) in [0, 1]."""
    probabilities = reference_classifier.probabilities(samples).double()
    classes = probabilities.mean(dim=0)
    of_real, of_samples = (reference_classifier.features(images).cpu().numpy() for images in (real, samples))
    return {
        "frechet_distance": frechet_distance(of_real, of_samples),
        "kernel_distance": kernel_distance(of_real, of_samples),
        **vars(overlap(of_real, of_samples, neighbours)),
        "confidence": float(probabilities.amax(dim=1).mean()),
        "class_entropy": float(torch.special.entr(classes).sum()),
    }


CLASSIFIER_METRICS = {
    metric.name: metric
    for metric in (
        Metric(
            "frechet_distance",
            "Fréchet distance to test images, features of the reference classifier",
            higher_is_better=False,
            primary=True,
            source="Heusel et al. 2017",
        ),
        Metric(
            "kernel_distance",
            "Kernel distance to test images, features of the reference classifier",
            higher_is_better=False,
            source="Bińkowski et al. 2018",
        ),
        Metric(
            "precision",
            "Share of samples among the test images",
            higher_is_better=True,
            source="Kynkäänniemi et al. 2019",
        ),
        Metric(
            "recall", "Share of test images among the samples", higher_is_better=True, source="Kynkäänniemi et al. 2019"
        ),
        Metric(
            "density", "How densely test images surround the samples", higher_is_better=True, source="Naeem et al. 2020"
        ),
        Metric(
            "coverage", "Share of test images with a sample nearby", higher_is_better=True, source="Naeem et al. 2020"
        ),
        Metric(
            "confidence", "How recognisable: the reference classifier's mean highest probability", higher_is_better=True
        ),
        Metric(
            "class_entropy",
            "How varied: entropy of the classes that the reference classifier sees",
            "nats/image",
            higher_is_better=True,
        ),
    )
}


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
            needs_reference_classifier=True,
            metrics=(
                *CLASSIFIER_METRICS.values(),
                Metric(
                    "nearest_real_distance",
                    "RMS pixel distance to the nearest test image",
                    "RMSE",
                    higher_is_better=False,
                ),
                Metric(
                    "relative_diversity",
                    "Mean distance between two samples over that between two test images",
                    higher_is_better=True,
                ),
            ),
        )
    ]
