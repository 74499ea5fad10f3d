"""A published study that can be compared with results: its figures, its procedures and its claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from aebench.contracts.names import check_name

BootstrapSamples = np.ndarray[Any, Any]


class Measured(Protocol):
    """The results of a matrix with their uncertainty; called with a quantity and a model.

    Each answer holds the mean over seeds in each of D bootstrap samples. Samples are paired: the i-th entries of all
    answers come from the same resampling of the seeds, so that they can be compared entry by entry.
    """

    def __call__(self, quantity: str, model: str) -> BootstrapSamples:
        """Means of a quantity for a model: (D,) float64.

        Raises:
            NotMeasured: the matrix, or the procedure, has no such number.
        """
        ...

    def best_in_task(self, model: str) -> BootstrapSamples:
        """Whether the model has the best primary metric of all models, for each of the T tasks: (T, D) bool."""
        ...

    def by_held_out(self, quantity: str, model: str) -> Mapping[int, BootstrapSamples]:
        """Means of a quantity for a model, by the class that was held out of training: (D,) float64 each.

        Raises:
            NotMeasured: fewer than two classes were held out in turn.
        """
        ...


@dataclass(frozen=True)
class Claim:
    """Something a study concludes, as a predicate over results.

    Attributes:
        name: `[a-z][a-z0-9_]*`.
        text: the conclusion, in one sentence; where procedures measure different things, it names both.
        holds: (measured) -> (D,) bool, whether it holds in each bootstrap sample.
    """

    name: str
    text: str
    holds: Callable[[Measured], BootstrapSamples]

    def __post_init__(self) -> None:
        check_name("claim", self.name)


@dataclass(frozen=True)
class Procedure:
    """A way of measuring.

    Attributes:
        name: such as "article".
        title: how it differs from other procedures.
        quantities: by quantity, the task and its metric that measure it.
        likelihood: name of the one that the matrix must have.
        backbone: name of the one that its rows must have, save those with networks of their own.
        variants: by model, the parameters that its row in the matrix must have; without an entry, the defaults do.
    """

    name: str
    title: str
    quantities: Mapping[str, tuple[str, str]]
    likelihood: str = "bernoulli"
    backbone: str = "dense"
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedFigures:
    """One quantity on one data set, by model, as it was published."""

    dataset: str
    quantity: str
    values: Mapping[str, float]
