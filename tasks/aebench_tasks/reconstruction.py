"""Reconstruction: errors and similarities of reconstructed test images."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aebench.contracts import (
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.drawing import labelled_rows
from aebench_tasks.fidelity import mean_squared_error, psnr, ssim

if TYPE_CHECKING:
    from matplotlib.figure import Figure


EXAMPLES = 16


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Means over the test images, and sixteen examples; only `nll_stochastic` uses sampled codes."""
    generator = context.generator()
    values_of: dict[str, list[Tensor]] = defaultdict(list)
    for x in data.test.batches():
        decoded = model.decode(model.embed(x))
        images = model.likelihood.mean(decoded)
        stochastic = model.decode(model.embed(x, stochastic=True, generator=generator))
        values_of["nll"].append(model.likelihood.nll(decoded, x))
        values_of["nll_stochastic"].append(model.likelihood.nll(stochastic, x))
        values_of["mse"].append(mean_squared_error(images, x))
        values_of["psnr"].append(psnr(images, x))
        values_of["ssim"].append(ssim(images, x))
    metrics = {name: float(torch.cat(values).double().mean()) for name, values in values_of.items()}
    exact = [name for name, value in metrics.items() if value == float("inf")]
    return Evaluation(
        metrics={name: value for name, value in metrics.items() if name not in exact},
        absent=dict.fromkeys(exact, "an image is reconstructed exactly"),
        figures={"reconstructions": _examples(model, data.test.x(_random_positions(context, len(data.test))))},
    )


def _random_positions(context: Context, n: int) -> Tensor:
    chosen = context.rng().choice(n, size=min(EXAMPLES, n), replace=False)
    return torch.from_numpy(chosen).to(context.device)


def _examples(model: Autoencoder, x: Tensor) -> Figure:
    rows = []
    for images in x.split(EXAMPLES // 2):
        rows += [("test image", images), ("reconstruction", model.reconstruct(images))]
    return labelled_rows(rows)


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="reconstruction",
            title="Reconstruction",
            summary="how well a model reconstructs unseen images",
            params=Params,
            evaluate=evaluate,
            metrics=(
                Metric("nll", "Negative log-likelihood", "nats/image", higher_is_better=False, primary=True),
                Metric(
                    "nll_stochastic",
                    "Negative log-likelihood under sampled codes",
                    "nats/image",
                    higher_is_better=False,
                ),
                Metric("mse", "Mean squared error per pixel", higher_is_better=False),
                Metric("psnr", "Peak signal-to-noise ratio, mean over images", "dB", higher_is_better=True),
                Metric(
                    "ssim",
                    "Structural similarity, windows of 7 x 7 pixels",
                    higher_is_better=True,
                    source="Wang et al. 2004",
                ),
            ),
        )
    ]
