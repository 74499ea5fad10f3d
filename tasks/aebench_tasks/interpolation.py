"""Interpolation: decoded points on the line between two codes."""

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

FRAMES = 128  # of the animation, as in the article
STILLS = 16  # of the frames, shown side by side


class InterpolationParams(Params):
    """Settings of the interpolation.

    Attributes:
        start, end: classes of the pair of images that is shown.
        pairs: random pairs behind the metrics.
        steps: points on the line of each of these pairs, both ends included.
    """

    start: int = Field(default=7, ge=0)
    end: int = Field(default=2, ge=0)
    pairs: int = Field(default=200, gt=0)
    steps: int = Field(default=16, gt=2)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Realism and smoothness of the points between random pairs of test images, and one pair as an animation.

    - nearest_real_distance: root mean squared pixel difference of each inner point to the nearest test image.
    - classifier_entropy: entropy of the reference classifier's class probabilities, in nats per inner point.
    - largest_step: the largest change between consecutive points, over the mean change of their line.
    """
    params = context.params
    starts, ends = _pairs(data.test, params.pairs, context)
    paths = model.interpolate(data.test.x(starts), data.test.x(ends), params.steps)
    steps = paths.diff(dim=1).flatten(2).norm(dim=2)
    frames = model.interpolate(*_shown_pair(data, context), FRAMES)[0]
    stills = torch.linspace(0, FRAMES - 1, STILLS).round().long().to(context.device)
    between = paths[:, 1:-1].flatten(0, 1)
    metrics = {
        "nearest_real_distance": float(nearest_rmse(between, data.test.x()).mean()),
        "largest_step": float((steps.amax(dim=1) / steps.mean(dim=1).clamp_min(1e-12)).mean()),
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
            "interpolation": grid(frames[stills], columns=STILLS),
            "interpolation_animated": Animation(enlarge(to_pixels(frames), smallest=128)),
        },
    )


def _pairs(test: Split, pairs: int, context: Context) -> tuple[Tensor, Tensor]:
    """Positions of random pairs of test images, of different classes if there are labels: (pairs,), (pairs,) int64."""
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


def _shown_pair(data: ImageDataset, context: Context) -> tuple[Tensor, Tensor]:
    """The first test image of each of the two classes; without such classes, the first two images."""
    labels = data.test.labels
    positions: list[int] = []
    for position, label in enumerate((context.params.start, context.params.end)):
        matches = [] if labels is None else (labels == label).nonzero()[:, 0].tolist()
        positions.append(matches[0] if matches else position)
    start, end = (data.test.x(slice(index, index + 1)) for index in positions)
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
                    "RMS pixel distance of interpolated images to the nearest test image",
                    "RMSE",
                    higher_is_better=False,
                    primary=True,
                ),
                Metric(
                    "classifier_entropy",
                    "Entropy of the reference classifier on interpolated images",
                    "nats/image",
                    higher_is_better=False,
                ),
                Metric(
                    "largest_step",
                    "Largest change between consecutive points, over the mean change",
                    higher_is_better=False,
                ),
            ),
        )
    ]
