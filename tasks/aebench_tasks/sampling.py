"""Sampling: images drawn from a model, by its own prior and by an ex-post sampler, compared with test images."""

from __future__ import annotations

from dataclasses import replace

import torch
from pydantic import Field, field_validator
from torch import Tensor

from aebench.contracts import (
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    ReferenceClassifier,
    Skip,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.distances import mean_pairwise_rmse, nearest_rmse
from aebench_tasks.drawing import grid
from aebench_tasks.generated import Features, frechet_distance, kernel_distance, overlap

EXAMPLES = 16
PRIOR = "prior"  # the sampler that is the model's own
EX_POST = "ex_post_"  # begins the names of what the other sampler's samples give
PRIMARY = f"{EX_POST}frechet_distance"
NO_LABELS = "the data has no labels to train a reference classifier on"


class SamplingParams(Params):
    """Settings of the sampling.

    Attributes:
        samples: samples behind the metrics; at most as many as there are test images are used.
        sampler: the ex-post sampler, fitted to the training codes of every model.
        neighbours: nearest neighbours that bound the neighbourhood of an image.
    """

    samples: int = Field(default=2000, ge=EXAMPLES)
    sampler: str = "gmm"
    neighbours: int = Field(default=5, gt=0)

    @field_validator("sampler")
    @classmethod
    def _is_ex_post(cls, name: str) -> str:
        if name == PRIOR:
            raise ValueError(f"'{PRIOR}' is no ex-post sampler; samples of a model's own prior are always evaluated")
        return name


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Compare samples with test images: by features and classes of the reference classifier, and by pixels.

    Every model has samples of the ex-post sampler (Ghosh et al. 2020), the metrics `ex_post_*`; a model with a prior
    has samples of that too.
    """
    size = max(EXAMPLES, min(context.params.samples, len(data.test)))
    chosen = torch.from_numpy(context.rng().permutation(len(data.test))[:size]).to(context.device)
    real = _RealImages(data.test.x(chosen), data.test.x(), context.reference_classifier)
    codes = torch.cat([model.embed(x) for x in data.train.batches()])
    metrics: dict[str, float] = {}
    absent: dict[str, str] = {}
    images = {}
    for prefix, name in (("", PRIOR), (EX_POST, context.params.sampler)):
        sampler = context.samplers[name]
        if isinstance(sampler, Skip):
            absent |= {prefix + metric.name: sampler.reason for metric in METRICS}
            continue
        samples = sampler.fit(model, codes, context.generator())(size, context.generator())
        found = real.compare(samples, context.params.neighbours)
        absent |= {prefix + metric.name: NO_LABELS for metric in METRICS if metric.name not in found}
        metrics |= {prefix + metric: value for metric, value in found.items()}
        images[f"{prefix}samples"] = grid(samples[:EXAMPLES], columns=4)
    return Evaluation(metrics, images=images, absent=absent)


class _RealImages:
    """The test images that samples are compared with; what needs no samples is computed once.

    Args:
        chosen: as many as there are samples, (N, C, H, W) in [0, 1].
        test: all of them, in which the nearest one is looked for.
        reference_classifier: None if there is none.
    """

    def __init__(self, chosen: Tensor, test: Tensor, reference_classifier: ReferenceClassifier | None) -> None:
        self._test = test
        self._classifier = reference_classifier
        self._diversity = mean_pairwise_rmse(chosen)
        self._features = None if reference_classifier is None else _features(reference_classifier, chosen)

    def compare(self, samples: Tensor, neighbours: int) -> dict[str, float]:
        """The METRICS of samples (N, C, H, W) in [0, 1]; without a reference classifier only PIXEL_METRICS."""
        metrics = {
            "nearest_real_distance": float(nearest_rmse(samples, self._test).mean()),
            "relative_diversity": mean_pairwise_rmse(samples) / self._diversity,
        }
        if self._classifier is None or self._features is None:
            return metrics
        probabilities = self._classifier.probabilities(samples).double()
        features = _features(self._classifier, samples)
        return metrics | {
            "frechet_distance": frechet_distance(self._features, features),
            "kernel_distance": kernel_distance(self._features, features),
            **vars(overlap(self._features, features, neighbours)),
            "confidence": float(probabilities.amax(dim=1).mean()),
            "class_entropy": float(torch.special.entr(probabilities.mean(dim=0)).sum()),
        }


def _features(reference_classifier: ReferenceClassifier, images: Tensor) -> Features:
    return reference_classifier.features(images).cpu().numpy()


CLASSIFIER_METRICS = (
    Metric(
        "frechet_distance",
        "Fréchet distance to test images, features of the reference classifier",
        higher_is_better=False,
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

PIXEL_METRICS = (
    Metric("nearest_real_distance", "RMS pixel distance to the nearest test image", "RMSE", higher_is_better=False),
    Metric(
        "relative_diversity",
        "Mean pixel distance of samples, over that of test images",
        higher_is_better=True,
    ),
)

METRICS = (*CLASSIFIER_METRICS, *PIXEL_METRICS)


def _of(metric: Metric, prefix: str, sampler: str) -> Metric:
    """The metric for the samples of one sampler."""
    name = prefix + metric.name
    return replace(metric, name=name, title=f"{metric.title}, {sampler}", primary=name == PRIMARY)


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="sampling",
            title="Sampling",
            summary="images drawn from the model, by an ex-post sampler and by its own prior",
            source="Ghosh et al. 2020",
            params=SamplingParams,
            evaluate=evaluate,
            samplers=lambda params: (PRIOR, params.sampler),
            needs_reference_classifier=True,
            metrics=(
                *(_of(metric, EX_POST, "ex-post sampler") for metric in METRICS),
                *(_of(metric, "", "own prior") for metric in METRICS),
            ),
        )
    ]
