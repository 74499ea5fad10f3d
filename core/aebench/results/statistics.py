"""Statistics over a few seeds: confidence intervals, and rankings by paired t-tests."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

CONFIDENCE_LEVEL = 0.95


@dataclass(frozen=True)
class Interval:
    """The mean of some values and a 95 % interval around it."""

    mean: float
    low: float
    high: float

    @property
    def half_width(self) -> float:
        return (self.high - self.low) / 2


def confidence_interval(values: Sequence[float]) -> Interval | None:
    """Student's 95 % interval of the mean of independent normal values; None for fewer than two.

    It is the limit of the parametric bootstrap of the studentised mean (Efron & Tibshirani 1993, ch. 12.5). Resampling
    the values themselves does not work for a few seeds: the true mean lies outside the range of three values in one
    case of four.
    """
    from scipy.stats import t

    if len(values) < 2:
        return None
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    half_width = float(t.ppf((1 + CONFIDENCE_LEVEL) / 2, len(values) - 1)) * error
    return Interval(mean, mean - half_width, mean + half_width)


def prediction_interval(values: Sequence[float]) -> Interval | None:
    """Where one more independent normal value lies with probability 0.95; None for fewer than two values."""
    of_mean = confidence_interval(values)
    if of_mean is None:
        return None
    half_width = of_mean.half_width * math.sqrt(len(values) + 1)
    return Interval(of_mean.mean, of_mean.mean - half_width, of_mean.mean + half_width)


@dataclass(frozen=True)
class Ranking:
    """Models from best to worst, and which of their differences are significant.

    Attributes:
        order: names, best mean first.
        p_values: the adjusted p-value of the difference of each pair of names, in either order.
    """

    order: tuple[str, ...]
    p_values: Mapping[tuple[str, str], float]

    def differ(self, one: str, other: str) -> bool:
        """Whether two models differ significantly."""
        return one != other and self.p_values[one, other] < 1 - CONFIDENCE_LEVEL

    def place(self, name: str) -> int:
        """1 for the best; consecutive models that do not differ significantly share the rank of the first."""
        first = 0
        for position, current in enumerate(self.order):
            if any(self.differ(current, other) for other in self.order[first:position]):
                first = position
            if current == name:
                return first + 1
        raise KeyError(name)

    def groups(self) -> tuple[tuple[str, ...], ...]:
        """Tie groups: the longest runs of consecutive models without a significant difference."""
        found: list[tuple[str, ...]] = []
        for start in range(len(self.order)):
            end = start + 1
            while end < len(self.order) and not any(
                self.differ(self.order[end], other) for other in self.order[start:end]
            ):
                end += 1
            group = self.order[start:end]
            if not found or not set(group) <= set(found[-1]):
                found.append(group)
        return tuple(found)


def rank(values: Mapping[str, Sequence[float]], higher_is_better: bool) -> Ranking:
    """Rank models by their means, with paired t-tests over the seeds.

    The false discovery rate of the significant differences is at most 5 % (Benjamini & Hochberg 1995).

    Args:
        values: one value per seed for each model, in the same order of seeds for all.
        higher_is_better: the direction of the metric.

    Raises:
        ValueError: the models have different numbers of values.
    """
    if len({len(entries) for entries in values.values()}) > 1:
        raise ValueError("every model needs a value for every seed")
    sign = -1 if higher_is_better else 1
    order = tuple(sorted(values, key=lambda name: (sign * float(np.mean(values[name])), name)))
    pairs = list(combinations(order, 2))
    adjusted = adjusted_p_values([paired_t_test(values[one], values[other]) for one, other in pairs])
    p_values = dict(zip(pairs, adjusted, strict=True))
    return Ranking(order, p_values | {(other, one): p for (one, other), p in p_values.items()})


def paired_t_test(one: Sequence[float], other: Sequence[float]) -> float:
    """Two-sided p-value of the mean difference; 1 when there is a single pair."""
    from scipy.stats import t

    differences = np.subtract(one, other)
    if len(differences) < 2:
        return 1.0
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(len(differences))
    if error == 0:
        return 1.0 if mean == 0 else 0.0
    return float(2 * t.sf(abs(mean) / error, len(differences) - 1))


def adjusted_p_values(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for many comparisons: the false discovery rate, by the step-up procedure.

    The source is Benjamini & Hochberg 1995.
    """
    from scipy.stats import false_discovery_control

    adjusted: list[float] = false_discovery_control(p_values).tolist() if p_values else []
    return adjusted
