"""What a linear layer can read off the codes when few labels are known."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import (
    AebenchError,
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

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCALED_AT_ONCE = 5000  # codes

# The article's short probe.
LEARNING_RATE = 1e-3
BATCH_SIZE = 32
MAX_EPOCHS = 20
PATIENCE = 3


class ClassificationParams(Params):
    """Share of the training images whose labels are known, and at least how many per class on average."""

    labelled_share: float = Field(default=0.01, gt=0, le=1)
    labelled_per_class: int = Field(default=10, gt=0)


def evaluate(model: Autoencoder, data: ImageDataset, context: Context) -> Evaluation:
    """Test accuracy of a converged linear probe, of the article's short one, and of training from scratch.

    - accuracy: logistic regression, run to convergence, on standardised deterministic codes.
    - accuracy_all_labels: the same probe, fitted on every training image.
    - short_probe_accuracy: the article's: one linear layer, Adam, at most 20 epochs, early stopping on the
      validation loss, on unscaled, sampled codes.
    - from_scratch_accuracy: the floor: the same short procedure for a fresh encoder and layer together.
    """
    labelled = _labelled(data, context)
    test_labels = _labels(data.test).cpu().numpy()
    test_codes = _codes(model, data.test)
    predicted = _converged_probe(model, labelled, test_codes)
    predicted_from_all = _converged_probe(model, data.train, test_codes)
    return Evaluation(
        metrics={
            "accuracy": float((predicted == test_labels).mean()),
            "accuracy_all_labels": float((predicted_from_all == test_labels).mean()),
            "short_probe_accuracy": _short_probe(model, labelled, data, context),
            "from_scratch_accuracy": _from_scratch(context.fresh_model(), labelled, data, context),
        },
        figures={"confusion_matrix": _confusion(test_labels, predicted, data.classes)},
    )


def _labelled(data: ImageDataset, context: Context) -> Split:
    """A random part of the training images, the same for every model."""
    params, n = context.params, len(data.train)
    size = max(round(params.labelled_share * n), params.labelled_per_class * len(data.classes))
    chosen = np.sort(context.rng().permutation(n)[:size])
    index = torch.from_numpy(chosen).to(context.device)
    return Split(data.train.images[index], _labels(data.train)[index])


def _labels(split: Split) -> Tensor:
    assert split.labels is not None
    return split.labels


def _codes(model: Autoencoder, split: Split) -> np.ndarray[Any, Any]:
    codes = np.empty((len(split), model.latent_dim), np.float32)  # of raw pixels there is no room for two copies
    filled = 0
    for x in split.batches():
        codes[filled : filled + len(x)] = model.embed(x).cpu().numpy()
        filled += len(x)
    if not np.isfinite(codes).all():
        raise AebenchError("the codes are not finite")
    return codes


def _converged_probe(model: Autoencoder, known: Split, test_codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Classes (M,) of test codes (M, D), predicted from the images whose labels are known."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    labels = _labels(known).cpu().numpy()
    if len(np.unique(labels)) < 2:
        raise AebenchError("classification needs labelled training images of at least two classes")
    codes, scaler = _codes(model, known), StandardScaler(copy=False)
    for start in range(0, len(codes), SCALED_AT_ONCE):  # it computes in float64
        scaler.partial_fit(codes[start : start + SCALED_AT_ONCE])
    probe = LogisticRegression(max_iter=5000).fit(scaler.transform(codes), labels)
    predicted: np.ndarray[Any, Any] = probe.predict(scaler.transform(test_codes, copy=True))
    return predicted


def _short_probe(model: Autoencoder, labelled: Split, data: ImageDataset, context: Context) -> float:
    """Only the layer learns, so the encoder's output is computed once; the bottleneck draws anew at every look."""
    generator = context.generator()
    layer = _linear(model.latent_dim, len(data.classes), generator)
    splits = (labelled, data.validation, data.test)
    encoded = {id(split): torch.cat([model.encode(x) for x in split.batches()]) for split in splits}

    def logits(split: Split, index: Tensor | slice) -> Tensor:
        h = encoded[id(split)][index]
        return layer(model.bottleneck(h, stochastic=True, generator=generator).z)

    return _fit_shortly(logits, [layer], labelled, data, context)


def _from_scratch(model: Autoencoder, labelled: Split, data: ImageDataset, context: Context) -> float:
    """Encoder and layer learn together, from the labelled images alone; the bottleneck takes no part."""
    with torch.no_grad():
        width = model.eval().encode(labelled.x(slice(1))).shape[1]
    layer = _linear(width, len(data.classes), context.generator())

    def logits(split: Split, index: Tensor | slice) -> Tensor:
        return layer(model.encode(split.x(index)))

    return _fit_shortly(logits, [model, layer], labelled, data, context)


def _fit_shortly(
    logits: Callable[[Split, Tensor | slice], Tensor],
    learning: list[nn.Module],
    labelled: Split,
    data: ImageDataset,
    context: Context,
) -> float:
    """Test accuracy after the article's short training with early stopping."""
    labels = _labels(labelled)
    optimizer = torch.optim.Adam([p for module in learning for p in module.parameters()], lr=LEARNING_RATE)
    order = Generator().manual_seed(context.seed)
    best, waited = float("inf"), 0
    for _ in range(MAX_EPOCHS):
        _set_training(learning, True)
        for batch in torch.randperm(len(labelled), generator=order).to(context.device).split(BATCH_SIZE):
            if len(batch) == 1:  # batch norm has no variance to work with
                continue
            optimizer.zero_grad()
            functional.cross_entropy(logits(labelled, batch), labels[batch]).backward()
            optimizer.step()
        _set_training(learning, False)
        with torch.no_grad():
            loss = float(functional.cross_entropy(logits(data.validation, slice(None)), _labels(data.validation)))
        best, waited = (loss, 0) if loss < best else (best, waited + 1)
        if waited >= PATIENCE:
            break
    with torch.no_grad():
        predicted = logits(data.test, slice(None)).argmax(dim=1)
    return float((predicted == _labels(data.test)).float().mean())


def _set_training(modules: list[nn.Module], mode: bool) -> None:
    for module in modules:
        module.train(mode)


def _linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from our generator."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, device=generator.device)
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


def _confusion(truth: np.ndarray[Any, Any], predicted: np.ndarray[Any, Any], classes: tuple[str, ...]) -> Figure:
    from matplotlib.figure import Figure
    from sklearn.metrics import ConfusionMatrixDisplay

    figure = Figure(figsize=(6.5, 6), layout="constrained")
    axes = figure.subplots()
    ConfusionMatrixDisplay.from_predictions(
        truth,
        predicted,
        labels=range(len(classes)),
        display_labels=classes,
        normalize="true",
        values_format=".2f",
        cmap="Blues",
        xticks_rotation="vertical" if max(map(len, classes)) > 3 else "horizontal",
        text_kw={"fontsize": 7},
        im_kw={"vmin": 0, "vmax": 1},
        ax=axes,
    )
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
                Metric("from_scratch_accuracy", "Accuracy from scratch, the floor", higher_is_better=True),
            ),
        )
    ]
