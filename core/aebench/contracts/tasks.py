"""The task: one evaluation of a trained model, as values; the core does the logging, saving and printing."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aebench.contracts.models import Autoencoder


@dataclass(frozen=True)
class Skip:
    """Why a task cannot be asked of a model on a data set; known before anything is trained."""

    reason: str


@dataclass(frozen=True)
class Metric:
    """A number a task reports.

    Attributes:
        name: `[a-z][a-z0-9_]*`, unique within the task.
        title: for people.
        unit: such as "nats/image"; empty for a pure number.
        higher_is_better: the direction in which models are ranked; there is no default.
        primary: the one that stands for the task in the table; exactly one per task.
        source: where its definition is written down, if anywhere.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = field(kw_only=True)
    primary: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"a metric's name must match [a-z][a-z0-9_]*, got {self.name!r}")


@dataclass(frozen=True)
class Animation:
    """Frames of equal shape, (T, H, W) or (T, H, W, 3) uint8, shown for `milliseconds` each."""

    frames: np.ndarray[Any, Any]
    milliseconds: int = 40


@dataclass(frozen=True)
class Table:
    """A small table kept beside the pictures: column names and rows of the same length."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Evaluation:
    """What a task found, by name; names become file names and metric names.

    Attributes:
        metrics: a value for each declared metric that could be computed.
        images: (H, W) or (H, W, 3) uint8 arrays, or animations.
        figures: matplotlib figures, made without pyplot.
        tables: small tables.
        absent: for each declared metric that could not be computed, why.
    """

    metrics: Mapping[str, float]
    images: Mapping[str, np.ndarray[Any, Any] | Animation] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


class ReferenceClassifier(Protocol):
    """A small convolutional classifier of the data set's images, trained by aebench on its training split.

    What it has learnt to see is the space in which generated images are compared with real ones.

    Attributes:
        accuracy: its share of correctly classified test images.
    """

    accuracy: float

    def features(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> the activations of its last hidden layer, (N, F) float32."""
        ...

    def probabilities(self, x: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] -> class probabilities, (N, K) float32."""
        ...


@dataclass(frozen=True)
class Context:
    """What a task may use besides the model and the data.

    The seed depends on the suite's seed, the task and the repetition, but not on the model: random choices (which
    images, which labels) are the same for all models.

    Attributes:
        params: this task's parameters, an instance of its `params` class.
        device: where model and data are.
        seed: for libraries that want a number, in 0..2**32-1.
        held_out: the class left out of training, or None.
        fresh_model: builds an untrained twin of the model, on the device, initialised anew but reproducibly.
        reference_classifier: the data set's, for a task that declares `needs_reference_classifier`; None where the
            data has no labels.
    """

    params: Any
    device: torch.device
    seed: int
    held_out: int | None
    fresh_model: Callable[[], Autoencoder]
    reference_classifier: ReferenceClassifier | None = None

    def generator(self) -> Generator:
        """A new generator on the device, seeded with `seed`."""
        return Generator(self.device).manual_seed(self.seed)

    def rng(self) -> np.random.Generator:
        """A new NumPy generator seeded with `seed`: the same choices on every device."""
        return np.random.default_rng(self.seed)
