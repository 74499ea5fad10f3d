"""Sampling: images drawn from a model's prior, compared with test images."""

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

EXAMPLES = 16


class SamplingParams(Params):
    """Settings of the sampling.

    Attributes:
        samples: samples behind the metrics; at most as many as there are test images are used.
        neighbours: nearest neighbours that bound the neighbourhood of an image.
    """

    samples: int = Field(default=2000, ge=EXAMPLES)
    neighbours: int = Field(default=5, gt=0)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Compare samples with test images: by features and classes of the reference classifier, and by pixels."""
    size = max(EXAMPLES, min(context.params.samples, len(data.test)))
    samples = model.sample(size, context.generator())
    chosen = torch.from_numpy(context.rng().permutation(len(data.test))[:size]).to(context.device)
    real = data.test.x(chosen)
    metrics = {
        "nearest_real_distance": float(nearest_rmse(samples, data.test.x()).mean()),
        "relative_diversity": mean_pairwise_rmse(samples) / mean_pairwise_rmse(real),
    }
    absent = {}
    if context.reference_classifier is None:
        absent = dict.fromkeys(CLASSIFIER_METRICS, "the data has no labels to train a reference classifier on")
    else:
        metrics |= _classifier_metrics(context.reference_classifier, samples, real, context.params.neighbours)
    return Evaluation(metrics, images={"samples": grid(samples[:EXAMPLES], columns=4)}, absent=absent)


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
            "Share of samples in the neighbourhood of a test image",
            higher_is_better=True,
            source="Kynkäänniemi et al. 2019",
        ),
        Metric(
            "recall",
            "Share of test images in the neighbourhood of a sample",
            higher_is_better=True,
            source="Kynkäänniemi et al. 2019",
        ),
        Metric(
            "density",
            "Mean number of test images around a sample, over neighbours",
            higher_is_better=True,
            source="Naeem et al. 2020",
        ),
        Metric(
            "coverage",
            "Share of test images with a sample in their neighbourhood",
            higher_is_better=True,
            source="Naeem et al. 2020",
        ),
        Metric("confidence", "Mean highest probability by the reference classifier", higher_is_better=True),
        Metric(
            "class_entropy",
            "Entropy of the mean class probabilities by the reference classifier",
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
                    "Mean pixel distance between samples, over that between test images",
                    higher_is_better=True,
                ),
            ),
        )
    ]
