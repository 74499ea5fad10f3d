"""A matrix and what is known of its cells, independent of where it is stored."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any

from aebench.planning.planner import Plan
from aebench.results.statistics import Ranking, confidence_interval, rank

LAYOUT = 2  # of the description stored with every matrix; raise it when its meaning changes


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
        """Name, direction and unit: `bce ↓ [nats/image]`."""
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
        return next(metric for metric in self.metrics if metric.primary)


@dataclass(frozen=True)
class Values:
    """What was found in a cell: metrics by name, and for each that could not be computed the reason."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CellResult:
    """One cell: `status` is ok, skipped, failed, or pending when the run has not come to it.

    `held_out` is the class left out of training where several are, one after another; the cell is then one of as many.
    """

    model: str
    task: str
    seed: int
    status: str
    reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    absent: Mapping[str, str] = field(default_factory=dict)
    held_out: int | None = None


@dataclass(frozen=True)
class Variant:
    """A row's model: its registered name and its parameters as JSON values."""

    name: str
    params: Mapping[str, Any]


@dataclass(frozen=True)
class MatrixResults:
    """The newest state of a matrix: `models` are its rows, `tasks` its columns, one cell per pair and seed.

    `baselines` are the rows that are floors or ceilings: shown, but not compared with the others. `variants` says which
    model stands in each row.
    """

    matrix: str
    dataset: str
    models: tuple[str, ...]
    tasks: tuple[TaskInfo, ...]
    cells: tuple[CellResult, ...]
    baselines: frozenset[str] = frozenset()
    variants: Mapping[str, Variant] = field(default_factory=dict)

    def count(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell.status for cell in self.cells)

    def of(self, model: str, task: str) -> list[CellResult]:
        """The cells of one pair, one per seed and held-out class."""
        return [cell for cell in self.cells if (cell.model, cell.task) == (model, task)]

    @property
    def rows(self) -> tuple[str, ...]:
        """The models in the order in which they are shown: baselines last."""
        return tuple(sorted(self.models, key=lambda model: model in self.baselines))

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
        if any(cell.status == "failed" for cell in self.of(model, task.name)):
            return []
        return list(self.by_seed(model, task.name, task.primary.name).values())

    def ranking(self, task: TaskInfo) -> Ranking | None:
        """The models that have a finite value for every seed, baselines aside; None for fewer than two of them."""
        values = {
            model: [value for _, value in sorted(found.items())]
            for model in self.models
            if model not in self.baselines
            and sorted(found := self.by_seed(model, task.name, task.primary.name)) == self.seeds
            and all(map(math.isfinite, found.values()))
        }
        return rank(values, task.primary.higher_is_better) if len(values) > 1 else None

    @property
    def seeds(self) -> list[int]:
        """The repetitions, in order."""
        return sorted({cell.seed for cell in self.cells})

    @property
    def is_repeated(self) -> bool:
        """Whether there are several seeds, without which nothing can be told apart."""
        return len(self.seeds) > 1

    def is_best(self, model: str, task: TaskInfo) -> bool:
        """Whether this model shares the first place, and another one does not."""
        ranking = self.ranking(task)
        if ranking is None or model not in ranking.order:
            return False
        return ranking.place(model) == 1 < ranking.place(ranking.order[-1])

    def entry(self, model: str, task: TaskInfo) -> str:
        """What stands in the table: the mean with its 95 % interval over seeds and its place, or the cell's status."""
        cells, values = self.of(model, task.name), self.values(model, task)
        statuses = {cell.status for cell in cells}
        if "failed" in statuses:
            return "failed"
        if not values:
            absent = any(task.primary.name in cell.absent for cell in cells)
            return "absent" if absent else "–" if statuses == {"skipped"} else "pending"
        text = f"{fmean(values):.4g}" if abs(fmean(values)) >= 1 else f"{fmean(values):.3f}"
        found, ranking = confidence_interval(values), self.ranking(task)
        if found is not None:
            noticeable = found.half_width > 1e-9 * abs(found.mean)
            text += f" ± {found.half_width:.2g}" if noticeable else " ± 0"
        if self.is_repeated and ranking is not None and model in ranking.order:
            text += f" ({ranking.place(model)})"
        return text

    def name(self, model: str) -> str:
        """A row's name, which says what a baseline is."""
        return f"{model} (baseline)" if model in self.baselines else model

    def to_markdown(self) -> str:
        """The table of models and tasks in Markdown, the best of each column in bold."""
        lines = [
            " | ".join(["| model", *(f"{task.title}<br>{task.primary.heading}" for task in self.tasks)]) + " |",
            "|---|" + "--:|" * len(self.tasks),
        ]
        for model in self.rows:
            marks = ("**" if self.is_best(model, task) else "" for task in self.tasks)
            entries = (f"{mark}{self.entry(model, task)}{mark}" for mark, task in zip(marks, self.tasks, strict=True))
            lines.append(" | ".join([f"| {self.name(model)}", *entries]) + " |")
        return "\n".join(lines)

    def to_json(self) -> dict[str, Any]:
        return {
            "matrix": self.matrix,
            "dataset": self.dataset,
            "cells": [
                {
                    "model": cell.model,
                    "task": cell.task,
                    "seed": cell.seed,
                    "status": cell.status,
                    "reason": cell.reason,
                    "metrics": {name: _or_null(value) for name, value in cell.metrics.items()},
                }
                | ({"absent": dict(cell.absent)} if cell.absent else {})
                | ({} if cell.held_out is None else {"held_out": cell.held_out})
                for cell in self.cells
            ],
            "rankings": {task.name: self._ranking_as_json(task) for task in self.tasks},
        }

    def _ranking_as_json(self, task: TaskInfo) -> dict[str, Any]:
        """Means with their intervals and places, best first, and the groups that cannot be told apart."""
        ranking = self.ranking(task)
        entries = []
        for model in ranking.order if ranking is not None else ():
            values = self.values(model, task)
            found = confidence_interval(values)
            entry = {"model": model, "mean": fmean(values)}
            if found is not None and ranking is not None:
                entry |= {"low": found.low, "high": found.high, "place": ranking.place(model)}
            entries.append(entry)
        groups = ranking.groups() if ranking is not None and self.is_repeated else ()
        return {"metric": task.primary.name, "models": entries, "groups": [list(group) for group in groups]}


def _or_null(value: float) -> float | None:
    """JSON has no way to write a number that is not finite."""
    return value if math.isfinite(value) else None


def describe(plan: Plan) -> dict[str, Any]:
    """The matrix as JSON values: all that is needed to show its results when the plugins are long gone."""
    return {
        "layout": LAYOUT,
        "matrix": plan.matrix,
        "dataset": {
            "name": plan.dataset.name,
            "title": plan.dataset.title,
            "fingerprint": plan.dataset.fingerprint,
            "sizes": list(plan.dataset.sizes),
        },
        "seeds": plan.seeds,
        "suite_seed": plan.suite_seed,
        "models": [
            {
                "label": model.label,
                "name": model.record.name,
                "title": model.record.title,
                "distribution": model.plugin.distribution,
                "version": model.plugin.version,
                "baseline": model.record.baseline,
                "params": model.params.model_dump(mode="json"),
            }
            for model in plan.models
        ],
        "tasks": [
            {
                "name": task.record.name,
                "title": task.record.title,
                "distribution": task.plugin.distribution,
                "version": task.plugin.version,
                "params": task.params.model_dump(mode="json"),
                "metrics": [
                    {
                        "name": metric.name,
                        "title": metric.title,
                        "unit": metric.unit,
                        "higher_is_better": metric.higher_is_better,
                        "primary": metric.primary,
                    }
                    for metric in task.record.metrics
                ],
            }
            for task in plan.tasks
        ],
        "cells": [
            {
                "model": cell.training.label,
                "task": cell.task,
                "seed": cell.training.seed,
                "hash": cell.hash,
            }
            | ({"held_out": cell.training.held_out} if cell.training.in_rotation else {})
            for cell in plan.cells
        ],
    }


def tasks_of(description: Mapping[str, Any]) -> tuple[TaskInfo, ...]:
    """The columns of a described matrix."""
    return tuple(
        TaskInfo(task["name"], task["title"], tuple(MetricInfo(**metric) for metric in task["metrics"]))
        for task in description["tasks"]
    )
