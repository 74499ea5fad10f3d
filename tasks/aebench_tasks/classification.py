"""Classification: linear classifiers of the codes, fitted on few labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from aebench.contracts import (
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
from aebench_tasks.drawing import caption
from aebench_tasks.probes import (
    at_most,
    converged_probe,
    deterministic_codes,
    from_scratch,
    frozen_random_features,
    labels_of,
    random_features,
    short_probe,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


RANDOM_FEATURES_EPOCHS = (20, 60)  # the article's budget of its classifier, and of its autoencoders


class ClassificationParams(Params):
    """How many labels are known.

    Attributes:
        labelled_share: share of the training images.
        labelled_per_class: mean number per class that are known at least.
    """

    labelled_share: float = Field(default=0.01, gt=0, le=1)
    labelled_per_class: int = Field(default=10, gt=0)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Test accuracy of linear classifiers that are fitted on few labels.

    On the codes of the trained model:

    - accuracy: logistic regression, run to convergence, on standardised deterministic codes.
    - accuracy_all_labels: the same probe, fitted on every training image.
    - short_probe_accuracy: the article's: one linear layer, Adam, at most 20 epochs, early stopping on the
      validation loss, on unscaled, sampled codes.

    The floors, on a fresh encoder, with the optimiser of the short probe:

    - random_features_accuracy: the article's floor: only the layer learns, batch norm adapts; 20 epochs.
    - random_features_60_epochs_accuracy: the same fit after 60 epochs.
    - frozen_random_accuracy: only the layer learns, the encoder stays in evaluation mode; 20 epochs.
    - from_scratch_accuracy: encoder and layer learn; the epochs and the early stopping of the short probe.
    """
    labelled = _labelled(data, context)
    test_labels = labels_of(data.test).cpu().numpy()
    test_codes = deterministic_codes(model, data.test)
    predicted = converged_probe(model, labelled, test_codes)
    predicted_from_all = converged_probe(model, data.train, test_codes)
    after_20_epochs, after_60_epochs = random_features(context, labelled, data, RANDOM_FEATURES_EPOCHS)
    return Evaluation(
        metrics={
            "accuracy": float((predicted == test_labels).mean()),
            "accuracy_all_labels": float((predicted_from_all == test_labels).mean()),
            "short_probe_accuracy": short_probe(model, labelled, data, context),
            "random_features_accuracy": after_20_epochs,
            "random_features_60_epochs_accuracy": after_60_epochs,
            "frozen_random_accuracy": frozen_random_features(context, labelled, data, RANDOM_FEATURES_EPOCHS[0]),
            "from_scratch_accuracy": from_scratch(context, labelled, data),
        },
        figures={"confusion_matrix": _confusion(test_labels, predicted, data.classes)},
    )


def _labelled(data: ImageDataset, context: Context) -> Split:
    """A random subset of the training images, the same for every model."""
    params = context.params
    share = round(params.labelled_share * len(data.train))
    return at_most(max(share, params.labelled_per_class * len(data.classes)), data.train, context)


def _confusion(truth: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], classes: tuple[str, ...]) -> Figure:
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.subplots()
    shown = ConfusionMatrixDisplay.from_predictions(
        truth,
        predicted,
        labels=range(len(classes)),
        display_labels=[caption(name) for name in classes],
        normalize="true",
        values_format=".2f",
        cmap="Blues",
        xticks_rotation="vertical" if max(map(len, classes)) > 3 else "horizontal",
        text_kw={"fontsize": 7},
        im_kw={"vmin": 0, "vmax": 1},
        ax=axes,
    )
    for text in shown.text_.flat:
        text.set_in_layout(False)  # it is within a cell; to measure a hundred texts takes as long as to draw them
    axes.set_title(f"converged probe: accuracy {(truth == predicted).mean():.3f}")
    return figure


@hookimpl
def aebench_tasks() -> list[TaskRecord]:
    return [
        TaskRecord(
            name="classification",
            title="Classification",
            summary="a linear layer on the codes, fitted on 1 % of the labels",
            params=ClassificationParams,
            evaluate=evaluate,
            needs_labels=True,
            metrics=(
                Metric("accuracy", "Accuracy of the converged probe", higher_is_better=True, primary=True),
                Metric("accuracy_all_labels", "Accuracy of the converged probe on all labels", higher_is_better=True),
                Metric("short_probe_accuracy", "Accuracy of the article's short probe", higher_is_better=True),
                Metric("random_features_accuracy", "Accuracy on random features, 20 epochs", higher_is_better=True),
                Metric(
                    "random_features_60_epochs_accuracy",
                    "Accuracy on random features, 60 epochs",
                    higher_is_better=True,
                ),
                Metric("frozen_random_accuracy", "Accuracy on frozen random features", higher_is_better=True),
                Metric("from_scratch_accuracy", "Accuracy of training from scratch", higher_is_better=True),
            ),
        )
    ]
