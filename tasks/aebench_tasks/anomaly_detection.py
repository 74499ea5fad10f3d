"""Anomaly detection: the reconstruction error as a score for images of a class held out of training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aebench.contracts import (
    AebenchError,
    Autoencoder,
    Context,
    Evaluation,
    ImageDataset,
    Metric,
    Params,
    TaskRecord,
    hookimpl,
)
from aebench_tasks.drawing import caption

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """How well two scores separate test images of the held-out class from all others.

    - auroc, average_precision: of the reconstruction error, the negative log-likelihood under the deterministic code.
    - signed_sum_auroc: of the score behind the article's figures: reconstruction minus image, summed over the pixels,
      under sampled codes. It measures ink rather than error.

    Raises:
        AebenchError: no class is held out, the test split lacks it or all others, or a score is not finite.
    """
    assert data.test.labels is not None
    if context.held_out is None:
        raise AebenchError("anomaly detection needs a profile that holds out a class (held_out)")
    from sklearn.metrics import average_precision_score, roc_auc_score

    generator = context.generator()
    errors, signed_sums = [], []
    for x in data.test.batches():
        errors.append(model.likelihood.nll(model.decode(model.embed(x)), x))
        reconstructed = model.reconstruct(x, stochastic=True, generator=generator)
        signed_sums.append((reconstructed - x).flatten(1).sum(dim=1))
    anomalous = (data.test.labels == context.held_out).cpu().numpy()
    if anomalous.all() or not anomalous.any():
        raise AebenchError(f"the test split needs images of class {context.held_out} and of others")
    error, signed_sum = (torch.cat(scores).cpu().numpy() for scores in (errors, signed_sums))
    if not (np.isfinite(error).all() and np.isfinite(signed_sum).all()):
        raise AebenchError("the reconstruction errors of the test images are not finite")
    return Evaluation(
        metrics={
            "auroc": float(roc_auc_score(anomalous, error)),
            "average_precision": float(average_precision_score(anomalous, error)),
            "signed_sum_auroc": float(roc_auc_score(anomalous, signed_sum)),
        },
        figures={
            "roc": _roc(
                anomalous,
                {"reconstruction error": error, "signed sum (the article's score)": signed_sum},
                f"class {caption(data.classes[context.held_out])} held out of training",
            )
        },
    )


def _roc(anomalous: np.ndarray[Any, Any], scores: dict[str, np.ndarray[Any, Any]], title: str) -> Figure:
    from matplotlib.figure import Figure
    from sklearn.metrics import roc_auc_score, roc_curve

    figure = Figure(figsize=(5.5, 5.5), layout="constrained")
    axes = figure.subplots()
    for name, score in scores.items():
        false_positive, true_positive, _ = roc_curve(anomalous, score)
        axes.plot(false_positive, true_positive, label=f"{name}: AUROC {roc_auc_score(anomalous, score):.3f}")
    axes.plot([0, 1], [0, 1], color="0.6", linestyle=":", label="chance: AUROC 0.500")
    axes.set(xlabel="false positive rate", ylabel="true positive rate", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_title(title)
    axes.legend(loc="lower right")
    return figure


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="anomaly_detection",
            title="Anomaly detection",
            summary="separate a class held out of training by its reconstruction error",
            params=Params,
            evaluate=evaluate,
            profile="anomaly",
            needs_labels=True,
            metrics=(
                Metric("auroc", "AUROC of the reconstruction error", higher_is_better=True, primary=True),
                Metric("average_precision", "Average precision of the reconstruction error", higher_is_better=True),
                Metric("signed_sum_auroc", "AUROC of the signed sum, the article's score", higher_is_better=True),
            ),
        )
    ]
