"""A matrix and what is known of its cells, independent of where it is stored and how it is shown."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from statistics import fmean
from typing import Any

from aebench.planning.cells import CellResult, Status
from aebench.results.statistics import Interval, Ranking, confidence_interval, rank


@dataclass(frozen=True)
class MetricInfo:
    """A metric as it was declared when the matrix was run."""

    name: str
    title: str
    unit: str
    higher_is_better: bool
    primary: bool

    @property
    def heading(self) -> str:
        """Name, direction and unit: `nll ↓ [nats/image]`."""
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.name} {'↑' if self.higher_is_better else '↓'}{unit}"


@dataclass(frozen=True)
class TaskInfo:
    """A column of the matrix."""

    name: str
    title: str
    metrics: tuple[MetricInfo, ...]

    @property
    def primary(self) -> MetricInfo:
        """The metric that stands for the task in tables and rankings."""
        return next(metric for metric in self.metrics if metric.primary)


@dataclass(frozen=True)
class Variant:
    """A row's model: its registered name, its parameters as JSON values, and the backbone that it is built on.

    Where the networks are its own, `backbone` is None and `own_networks` says why.
    """

    name: str
    params: Mapping[str, Any]
    backbone: str | None = None
    own_networks: str = ""


@dataclass(frozen=True)
class MatrixResults:
    """The results of a matrix.

    Attributes:
        matrix: its identity, see `Plan.matrix`.
        dataset: name of the data set.
        models: labels of the rows.
        tasks: the columns.
        cells: one per row, column, seed and, where several classes are held out, held-out class.
        baselines: the rows that are floors or ceilings: shown, but not compared with the others.
        variants: which model stands in each row.
        likelihood: of the images, its name and settings.
        own_training: rows whose training differs from all others, and the settings that differ.
    """

    matrix: str
    dataset: str
    models: tuple[str, ...]
    tasks: tuple[TaskInfo, ...]
    cells: tuple[CellResult, ...]
    baselines: frozenset[str] = frozenset()
    variants: Mapping[str, Variant] = field(default_factory=dict)
    likelihood: Mapping[str, Any] = field(default_factory=lambda: {"name": "bernoulli"})
    own_training: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def count(self) -> Counter[Status]:
        """Cells by status."""
        return Counter(cell.status for cell in self.cells)

    def of(self, model: str, task: str) -> list[CellResult]:
        """The cells of one row and column, one per seed and held-out class."""
        return [cell for cell in self.cells if (cell.model, cell.task) == (model, task)]

    @property
    def rows(self) -> tuple[str, ...]:
        """The models in the order in which they are shown: baselines last."""
        return tuple(sorted(self.models, key=lambda model: model in self.baselines))

    @property
    def seeds(self) -> list[int]:
        """The repetitions, in order."""
        return sorted({cell.seed for cell in self.cells})

    @property
    def is_repeated(self) -> bool:
        """Whether there are several seeds, without which no two models can be told apart."""
        return len(self.seeds) > 1

    def by_seed(self, model: str, task: str, metric: str) -> dict[int, float]:
        """One value of a metric for each seed, the mean over held-out classes where there are several.

        A seed without one, because a cell is not `ok` or the metric absent, is left out.
        """
        cells: dict[int, list[CellResult]] = {}
        for cell in self.of(model, task):
            cells.setdefault(cell.seed, []).append(cell)
        return {
            seed: fmean(part.metrics[metric] for part in parts)
            for seed, parts in cells.items()
            if all(metric in part.metrics for part in parts)
        }

    def values(self, model: str, task: TaskInfo) -> list[float]:
        """The task's primary metric for one model, one value for each seed; none when a seed failed."""
        if any(cell.status is Status.FAILED for cell in self.of(model, task.name)):
            return []
        return list(self.by_seed(model, task.name, task.primary.name).values())

    def confidence_interval(self, model: str, task: TaskInfo) -> Interval | None:
        """The 95 % confidence interval of the mean of `values`; None for fewer than two seeds."""
        return confidence_interval(self.values(model, task))

    def ranking(self, task: TaskInfo) -> Ranking | None:
        """The models that have a finite value for every seed, baselines aside; None for fewer than two of them."""
        return self._rankings[task.name]

    def is_best(self, model: str, task: TaskInfo) -> bool:
        """Whether this model has rank 1 and at least one other model does not."""
        ranking = self.ranking(task)
        if ranking is None or model not in ranking.order:
            return False
        return ranking.place(model) == 1 < ranking.place(ranking.order[-1])

    def to_json(self) -> dict[str, Any]:
        """All cells and rankings as JSON values; null for a metric that is not finite."""
        return {
            "matrix": self.matrix,
            "dataset": self.dataset,
            "own_training": {model: dict(own) for model, own in self.own_training.items()},
            "cells": [_cell_as_json(cell) for cell in self.cells],
            "rankings": {task.name: self._ranking_as_json(task) for task in self.tasks},
        }

    @cached_property
    def _rankings(self) -> dict[str, Ranking | None]:
        return {task.name: self._rank(task) for task in self.tasks}

    def _rank(self, task: TaskInfo) -> Ranking | None:
        values = {
            model: [value for _, value in sorted(found.items())]
            for model in self.models
            if model not in self.baselines
            and sorted(found := self.by_seed(model, task.name, task.primary.name)) == self.seeds
            and all(map(math.isfinite, found.values()))
        }
        return rank(values, task.primary.higher_is_better) if len(values) > 1 else None

    def _ranking_as_json(self, task: TaskInfo) -> dict[str, Any]:
        """Means with intervals and ranks, best first, and the groups of models that do not differ significantly."""
        ranking = self.ranking(task)
        entries = []
        for model in ranking.order if ranking is not None else ():
            found = self.confidence_interval(model, task)
            entry = {"model": model, "mean": fmean(self.values(model, task))}
            if found is not None and ranking is not None:
                entry |= {"low": found.low, "high": found.high, "place": ranking.place(model)}
            entries.append(entry)
        groups = ranking.groups() if ranking is not None and self.is_repeated else ()
        return {"metric": task.primary.name, "models": entries, "groups": [list(group) for group in groups]}


def _cell_as_json(cell: CellResult) -> dict[str, Any]:
    values: dict[str, Any] = {
        "model": cell.model,
        "task": cell.task,
        "seed": cell.seed,
        "status": cell.status.value,
        "reason": cell.reason or None,
        "metrics": {name: value if math.isfinite(value) else None for name, value in cell.metrics.items()},
    }
    if cell.absent:
        values["absent"] = dict(cell.absent)
    if cell.held_out is not None:
        values["held_out"] = cell.held_out
    return values
