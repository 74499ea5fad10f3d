"""A published study put to the test: its figures, the way they were obtained, and what was concluded from them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

Draws = np.ndarray[Any, Any]


class Measured(Protocol):
    """What a matrix says, with its uncertainty: called with a quantity and a model.

    Each answer is an array of equal length, one entry for each draw of the bootstrap over seeds. Draws are paired: the
    i-th entries of all answers belong to the same seeds, so that they can be compared one by one.
    """

    def __call__(self, quantity: str, model: str) -> Draws:
        """(D,) float64.

        Raises:
            NotMeasured: the matrix, or the procedure, has no such number.
        """
        ...

    def best_in_task(self, model: str) -> Draws:
        """(T, D) bool: for each task of the matrix, whether the model has the best primary metric of all models."""
        ...

    def by_held_out(self, quantity: str, model: str) -> Mapping[int, Draws]:
        """(D,) float64 for each class that was left out of training.

        Raises:
            NotMeasured: fewer than two classes were left out in turn.
        """
        ...


@dataclass(frozen=True)
class Claim:
    """Something a study concludes, as a predicate over results.

    Attributes:
        name: `[a-z][a-z0-9_]*`.
        text: the conclusion, in plain words.
        holds: (measured) -> (D,) bool, whether it holds in each draw.
    """

    name: str
    text: str
    holds: Callable[[Measured], Draws]


@dataclass(frozen=True)
class Procedure:
    """A way of measuring.

    Attributes:
        name: "article", "sound".
        title: what is particular about it.
        quantities: the task and its metric by which a quantity is measured.
        variants: for a model that has to be in the matrix with other than its default parameters, these parameters.
    """

    name: str
    title: str
    quantities: Mapping[str, tuple[str, str]]
    variants: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class PublishedFigures:
    """One quantity on one data set, by model, as it was published."""

    dataset: str
    quantity: str
    values: Mapping[str, float]
