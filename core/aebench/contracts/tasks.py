"""What a task receives and returns; the core does the logging, saving and printing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from torch import Generator, Tensor, nn

from aebench.contracts.names import check_name

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from aebench.contracts.models import Autoencoder
    from aebench.contracts.records import SamplerRecord


@dataclass(frozen=True)
class Skip:
    """Why a task cannot evaluate a model on a data set; known before anything is trained."""

    reason: str


@dataclass(frozen=True)
class Metric:
    """A number a task reports.

    Attributes:
        name: `[a-z][a-z0-9_]*`, unique within the task.
        title: its name in tables and pages.
        unit: such as "nats/image"; empty for a pure number.
        higher_is_better: the direction in which models are ranked; there is no default.
        primary: shown in the table of models and tasks; exactly one per task.
        source: the publication that defines it, if any.
    """

    name: str
    title: str
    unit: str = ""
    higher_is_better: bool = field(kw_only=True)
    primary: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        check_name("metric", self.name)


@dataclass(frozen=True)
class Animation:
    """Frames of equal shape, (T, H, W) or (T, H, W, 3) uint8, shown for `milliseconds` each."""

    frames: np.ndarray[Any, Any]
    milliseconds: int = 40


@dataclass(frozen=True)
class Table:
    """A small table stored beside the images: column names, and rows with a value for each."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]


@dataclass(frozen=True)
class Evaluation:
    """What a task returns; names become metric names and file names.

    Attributes:
        metrics: a value for each declared metric that could be computed; beyond 1e100 it counts as infinite.
        images: (H, W) or (H, W, 3) uint8 arrays, or animations.
        figures: matplotlib figures, made without pyplot.
        tables: small tables.
        absent: for each declared metric that could not be computed, the reason.
    """

    metrics: Mapping[str, float]
    images: Mapping[str, np.ndarray[Any, Any] | Animation] = field(default_factory=dict)
    figures: Mapping[str, Figure] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


class ReferenceClassifier(Protocol):
    """A small convolutional classifier, trained by aebench on the data set's training split.

    Tasks compare generated images with real ones in the space of its features.

    Attributes:
        accuracy: the share of test images that it classifies correctly, in [0, 1].
    """

    accuracy: float

    def features(self, x: Tensor) -> Tensor:
        """Activations of the last hidden layer: (N, C, H, W) float32 in [0, 1] -> (N, F) float32."""
        ...

    def probabilities(self, x: Tensor) -> Tensor:
        """Class probabilities: (N, C, H, W) float32 in [0, 1] -> (N, K) float32."""
        ...


class Optimizer(Protocol):
    """Updates parameters by their gradients."""

    def zero_grad(self) -> None:
        """Remove the gradients."""
        ...

    def step(self) -> object:
        """Update the parameters."""
        ...


@dataclass(frozen=True)
class Context:
    """What a task may use besides the model and the data.

    The seed depends on the suite's seed, the task and the repetition, but not on the model: random choices (which
    images, which labels) are the same for all models.

    Attributes:
        params: this task's parameters, an instance of its `params` class.
        device: of the model and the data.
        seed: in 0..2**32-1, for libraries that take a number.
        held_out: the class that was held out of training, or None.
        fresh_model: builds an untrained model with the same parameters on the device; every call initialises it alike,
            from a seed of its own.
        adam: `adam(parameters, learning_rate)` is Adam as trainings use it, on the CPU faster than PyTorch's own. A
            step is its `zero_grad()`, the `backward()` of a loss, and its `step()`.
        samplers: by name, those that the task asks for; a Skip says why the model has no such samples.
        reference_classifier: of the data set, for a task that declares `needs_reference_classifier`; None when the
            data has no labels.
    """

    params: Any
    device: torch.device
    seed: int
    held_out: int | None
    fresh_model: Callable[[], Autoencoder]
    adam: Callable[[Sequence[nn.Parameter], float], Optimizer]
    reference_classifier: ReferenceClassifier | None = None
    samplers: Mapping[str, SamplerRecord | Skip] = field(default_factory=dict)

    def generator(self) -> Generator:
        """A new generator on the device, seeded with `seed`."""
        return Generator(self.device).manual_seed(self.seed)

    def rng(self) -> np.random.Generator:
        """A new NumPy generator seeded with `seed`: the same choices on every device."""
        return np.random.default_rng(self.seed)
