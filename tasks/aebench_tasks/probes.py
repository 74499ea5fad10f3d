"""Linear classifiers of few labels: on a trained model's codes, and on fresh encoders, the floors to compare with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import AebenchError, Autoencoder, Context, ImageDataset, Split

SCALING_BATCH = 5000  # codes

# The article's short fit (Krokotsch 2021).
LEARNING_RATE = 1e-3
BATCH_SIZE = 32
MAX_EPOCHS = 20
PATIENCE = 3  # epochs without a lower validation loss

VALIDATED_FROM_SCRATCH = 1000  # validation images; after every epoch the encoder encodes them

Logits = Callable[[Split, Tensor | None], Tensor]  # of the images at these positions; None for all


def labels_of(split: Split) -> Tensor:
    """The class indices (N,) int64 of a split that has labels."""
    assert split.labels is not None
    return split.labels


def at_most(n: int, split: Split, context: Context) -> Split:
    """A random choice of n images, in order, the same for every model; all if there are no more."""
    chosen = np.sort(context.rng().permutation(len(split))[:n])
    return split.at(torch.from_numpy(chosen).to(context.device))


def converged_probe(model: Autoencoder, labelled: Split, test_codes: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Predict classes by logistic regression, run to convergence, on standardised deterministic codes.

    Args:
        model: the trained model.
        labelled: the images whose labels are known.
        test_codes: (M, latent_dim) float32, of the images to classify.

    Returns:
        (M,) int64 class indices.

    Raises:
        AebenchError: the labels are of one class only, or a code is not finite.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    labels = labels_of(labelled).cpu().numpy()
    if len(np.unique(labels)) < 2:
        raise AebenchError("classification needs labelled training images of at least two classes")
    codes, scaler = deterministic_codes(model, labelled), StandardScaler(copy=False)
    for start in range(0, len(codes), SCALING_BATCH):  # the scaler computes in float64, in batches to save memory
        scaler.partial_fit(codes[start : start + SCALING_BATCH])
    probe = LogisticRegression(max_iter=5000).fit(scaler.transform(codes), labels)
    predicted: np.ndarray[Any, Any] = probe.predict(scaler.transform(test_codes, copy=True))
    return predicted


def deterministic_codes(model: Autoencoder, split: Split) -> np.ndarray[Any, Any]:
    """The codes (N, latent_dim) float32 of all images of a split.

    Raises:
        AebenchError: a code is not finite.
    """
    codes = np.empty((len(split), model.latent_dim), np.float32)  # filled in place: raw pixels do not fit twice
    filled = 0
    for x in split.batches():
        codes[filled : filled + len(x)] = model.embed(x).cpu().numpy()
        filled += len(x)
    if not np.isfinite(codes).all():
        raise AebenchError("the codes are not finite")
    return codes


def short_probe(model: Autoencoder, labelled: Split, data: ImageDataset, context: Context) -> float:
    """Test accuracy of the article's probe: a linear layer on unscaled, sampled codes, with early stopping."""
    generator = context.generator()
    layer = _linear(model.latent_dim, len(data.classes), generator)
    encoded = _encode_once(model, labelled, data.validation, data.test)

    def logits(split: Split, index: Tensor | None) -> Tensor:
        """Of new samples of the codes at every call."""
        batches = _rows(encoded[id(split)], index).split(split.images_at_once)
        return torch.cat([layer(model.bottleneck(h, stochastic=True, generator=generator).z) for h in batches])

    return _stop_early(_ShortFit(logits, [layer], labelled, data, context))


def from_scratch(context: Context, labelled: Split, data: ImageDataset) -> float:
    """Test accuracy of a fresh encoder and a linear layer, trained together on the labelled images.

    The bottleneck takes no part; the optimiser, the budget and the early stopping are those of the short probe, with
    at most 1,000 of the validation images.
    """
    model = context.fresh_model()
    layer = _layer_for(model, labelled, data, context)
    fewer = replace(data, validation=at_most(VALIDATED_FROM_SCRATCH, data.validation, context))
    return _stop_early(_ShortFit(_through(model, layer), [model, layer], labelled, fewer, context))


def random_features(context: Context, labelled: Split, data: ImageDataset, epochs: Sequence[int]) -> list[float]:
    """Test accuracy of a linear layer on a fresh encoder whose batch norm adapts; no other part of it changes.

    This is what the article calls training from scratch: during the fit the encoder is in training mode, so that its
    batch norm normalises each batch by itself and keeps running statistics, but the layer alone learns.

    Args:
        context: builds the fresh model.
        labelled: the images whose labels are known.
        data: for its test images and its classes.
        epochs: increasing numbers of epochs of one and the same fit, without early stopping.

    Returns:
        The accuracy in evaluation mode after each of these numbers of epochs.
    """
    model = context.fresh_model().requires_grad_(False)
    layer = _layer_for(model, labelled, data, context)
    fit = _ShortFit(_through(model, layer), [model, layer], labelled, data, context)
    return _accuracy_after(fit, epochs)


def frozen_random_features(context: Context, labelled: Split, data: ImageDataset, epochs: int) -> float:
    """Test accuracy of a linear layer on a fresh encoder in evaluation mode, after so many epochs."""
    model = context.fresh_model().eval().requires_grad_(False)
    layer = _layer_for(model, labelled, data, context)
    encoded = _encode_once(model, labelled, data.test)
    fit = _ShortFit(lambda split, index: layer(_rows(encoded[id(split)], index)), [layer], labelled, data, context)
    return _accuracy_after(fit, [epochs])[0]


class _ShortFit:
    """The article's fit: Adam on the cross-entropy of batches of 32 labelled images.

    Args:
        logits: (split, positions in it) -> (B, K).
        modules: those that are in training mode during an epoch; their parameters that require gradients learn.
        labelled: the images whose labels are known.
        data: for its validation and test images.
        context: its seed determines the order of the images.
    """

    def __init__(
        self, logits: Logits, modules: list[nn.Module], labelled: Split, data: ImageDataset, context: Context
    ) -> None:
        self._logits, self._modules, self._labelled, self._data = logits, modules, labelled, data
        self._device = context.device
        parameters = [p for module in modules for p in module.parameters() if p.requires_grad]
        self._optimizer = context.adam(parameters, LEARNING_RATE)
        self._order = Generator().manual_seed(context.seed)

    @torch.enable_grad()
    def run_epoch(self) -> None:
        labels = labels_of(self._labelled)
        self._set_training(True)
        for batch in torch.randperm(len(labels), generator=self._order).to(self._device).split(BATCH_SIZE):
            if len(batch) == 1:  # batch norm cannot normalise a single image
                continue
            self._optimizer.zero_grad()
            functional.cross_entropy(self._logits(self._labelled, batch), labels[batch]).backward()
            self._optimizer.step()
        self._set_training(False)

    def validation_loss(self) -> float:
        """Mean cross-entropy of the validation images, in nats per image."""
        validation = self._data.validation
        return float(functional.cross_entropy(self._logits(validation, None), labels_of(validation)))

    def test_accuracy(self) -> float:
        test = self._data.test
        predicted = self._logits(test, None).argmax(dim=1)
        return float((predicted == labels_of(test)).float().mean())

    def _set_training(self, mode: bool) -> None:
        for module in self._modules:
            module.train(mode)


def _stop_early(fit: _ShortFit) -> float:
    """Test accuracy after at most 20 epochs; stops after 3 without a lower validation loss."""
    lowest, waited = float("inf"), 0
    for _ in range(MAX_EPOCHS):
        fit.run_epoch()
        loss = fit.validation_loss()
        lowest, waited = (loss, 0) if loss < lowest else (lowest, waited + 1)
        if waited >= PATIENCE:
            break
    return fit.test_accuracy()


def _accuracy_after(fit: _ShortFit, epochs: Sequence[int]) -> list[float]:
    """Test accuracy after each of these increasing numbers of epochs."""
    accuracies = []
    for epoch in range(1, max(epochs) + 1):
        fit.run_epoch()
        if epoch in epochs:
            accuracies.append(fit.test_accuracy())
    return accuracies


def _encode_once(model: Autoencoder, *splits: Split) -> dict[int, Tensor]:
    """The encoder's output for every image of each split, by the split's identity; the model is in evaluation mode."""
    return {id(split): torch.cat([model.encode(x) for x in split.batches()]) for split in splits}


def _rows(values: Tensor, index: Tensor | None) -> Tensor:
    return values if index is None else values[index]


def _through(model: Autoencoder, layer: nn.Linear) -> Logits:
    """Logits of the encoder's output, computed anew at every call; of a whole split in batches, to save memory."""

    def logits(split: Split, index: Tensor | None) -> Tensor:
        batches = split.batches() if index is None else [split.x(index)]
        return torch.cat([layer(model.encode(x)) for x in batches])

    return logits


def _layer_for(model: Autoencoder, labelled: Split, data: ImageDataset, context: Context) -> nn.Linear:
    """A linear layer from the encoder's output to the classes."""
    width = model.eval().encode(labelled.x(slice(1))).shape[1]
    return _linear(width, len(data.classes), context.generator())


def _linear(inputs: int, outputs: int, generator: Generator) -> nn.Linear:
    """A linear layer with PyTorch's default initialisation, drawn from `generator`."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs, device=generator.device)
    bound = inputs**-0.5
    for parameter in layer.parameters():
        parameter.uniform_(-bound, bound, generator=generator)
    return layer
