"""What lies between two codes: a 7 on its way to becoming a 2."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aebench.contracts import (
    Animation,
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    Split,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.distances import nearest_rmse
from aebench_tasks.drawing import enlarge, grid, to_pixels

FRAMES = 128  # of the article's interpolation
STRIP = 16  # of these, the ones on the strip


class InterpolationParams(Params):
    """The pictured pair's classes, and how many pairs, with how many points each, the metrics are taken over."""

    start: int = Field(default=7, ge=0)
    end: int = Field(default=2, ge=0)
    pairs: int = Field(default=200, gt=0)
    steps: int = Field(default=16, gt=2)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """How real the in-betweens of random pairs look, how evenly they change, and one pair in pictures."""
    params = context.params
    starts, ends = _pairs(data.test, params.pairs, context)
    paths = model.interpolate(data.test.x(starts), data.test.x(ends), params.steps)
    changes = paths.diff(dim=1).flatten(2).norm(dim=2)
    frames = model.interpolate(*_pictured_pair(data, context), FRAMES)[0]
    shown = torch.linspace(0, FRAMES - 1, STRIP).round().long().to(context.device)
    between = paths[:, 1:-1].flatten(0, 1)
    metrics = {
        "nearest_real_distance": float(nearest_rmse(between, data.test.x()).mean()),
        "largest_step": float((changes.amax(dim=1) / changes.mean(dim=1).clamp_min(1e-12)).mean()),
    }
    absent = {}
    if context.reference_classifier is None:
        absent["classifier_entropy"] = "the data has no labels to train a reference classifier on"
    else:
        metrics["classifier_entropy"] = float(
            torch.special.entr(context.reference_classifier.probabilities(between)).sum(dim=1).mean()
        )
    return Evaluation(
        metrics=metrics,
        absent=absent,
        images={
            "interpolation": grid(frames[shown], columns=STRIP),
            "interpolation_animated": Animation(enlarge(to_pixels(frames), smallest=128)),
        },
    )


def _pairs(test: Split, pairs: int, context: Context) -> tuple[Tensor, Tensor]:
    """Indices of random pairs of test images, of different classes where there are labels."""
    rng = context.rng()
    starts = rng.integers(len(test), size=pairs)
    if test.labels is None:
        ends = (starts + rng.integers(1, len(test), size=pairs)) % len(test)
    else:
        labels = test.labels.cpu().numpy()
        others = [np.flatnonzero(labels != labels[start]) for start in starts]
        ends = np.array(
            [rng.choice(other) if len(other) else start for other, start in zip(others, starts, strict=True)]
        )
    return torch.from_numpy(starts).to(context.device), torch.from_numpy(ends).to(context.device)


def _pictured_pair(data: ImageDataset, context: Context) -> tuple[Tensor, Tensor]:
    """The first test image of each of the two classes; without such classes, the first two images."""
    labels = data.test.labels
    found: list[int] = []
    for position, wanted in enumerate((context.params.start, context.params.end)):
        matches = [] if labels is None else (labels == wanted).nonzero()[:, 0].tolist()
        found.append(matches[0] if matches else position)
    start, end = (data.test.x(slice(index, index + 1)) for index in found)
    return start, end


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="interpolation",
            title="Interpolation",
            summary="decoded points on the line between two codes",
            params=InterpolationParams,
            evaluate=evaluate,
            needs_reference_classifier=True,
            metrics=(
                Metric(
                    "nearest_real_distance",
                    "RMS pixel distance of in-betweens to the nearest test image",
                    "RMSE",
                    higher_is_better=False,
                    primary=True,
                ),
                Metric(
                    "classifier_entropy",
                    "How undecided the reference classifier is about in-betweens",
                    "nats/image",
                    higher_is_better=False,
                ),
                Metric(
                    "largest_step", "Largest change between neighbours over the mean change", higher_is_better=False
                ),
            ),
        )
    ]
