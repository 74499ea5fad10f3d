"""A matrix and what is known of its cells, independent of where it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import mean, stdev
from typing import Any

from aebench.planner import Plan

LAYOUT = 1  # of the description stored with every matrix; raise it when its meaning changes


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
class CellResult:
    """One cell: `status` is ok, skipped, failed, or pending when the run has not come to it."""

    model: str
    task: str
    seed: int
    status: str
    reason: str | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MatrixResults:
    """The newest state of a matrix: `models` are its rows, `tasks` its columns, one cell per pair and seed."""

    matrix: str
    dataset: str
    models: tuple[str, ...]
    tasks: tuple[TaskInfo, ...]
    cells: tuple[CellResult, ...]

    def count(self) -> Counter[str]:
        """Cells by status."""
        return Counter(cell.status for cell in self.cells)

    def of(self, model: str, task: str) -> list[CellResult]:
        """The cells of one pair, one per seed."""
        return [cell for cell in self.cells if (cell.model, cell.task) == (model, task)]

    def values(self, model: str, task: TaskInfo) -> list[float]:
        """The task's primary metric for one model, one value for each seed; none when a seed failed."""
        cells, name = self.of(model, task.name), task.primary.name
        if any(cell.status == "failed" for cell in cells):
            return []
        return [cell.metrics[name] for cell in cells if name in cell.metrics]

    def is_best(self, model: str, task: TaskInfo) -> bool:
        """Whether no other model has a better mean."""
        means = {row: mean(values) for row in self.models if (values := self.values(row, task))}
        best = max if task.primary.higher_is_better else min
        return model in means and means[model] == best(means.values())

    def entry(self, model: str, task: TaskInfo) -> str:
        """What stands in the table: the mean, with the standard deviation over seeds, or the cell's status."""
        statuses = {cell.status for cell in self.of(model, task.name)}
        values = self.values(model, task)
        if "failed" in statuses:
            return "failed"
        if not values:
            return "–" if statuses == {"skipped"} else "pending"
        text = f"{mean(values):.4g}" if abs(mean(values)) >= 1 else f"{mean(values):.3f}"
        return f"{text} ± {stdev(values):.2g}" if len(values) > 1 else text

    def to_markdown(self) -> str:
        """The table of models and tasks in Markdown, the best of each column in bold."""
        lines = [
            " | ".join(["| model", *(f"{task.title}<br>{task.primary.heading}" for task in self.tasks)]) + " |",
            "|---|" + "--:|" * len(self.tasks),
        ]
        for model in self.models:
            marks = ("**" if self.is_best(model, task) else "" for task in self.tasks)
            entries = (f"{mark}{self.entry(model, task)}{mark}" for mark, task in zip(marks, self.tasks, strict=True))
            lines.append(" | ".join([f"| {model}", *entries]) + " |")
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
                    "metrics": dict(cell.metrics),
                }
                for cell in self.cells
            ],
        }


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
            for cell in plan.cells
        ],
    }


def tasks_of(description: Mapping[str, Any]) -> tuple[TaskInfo, ...]:
    """The columns of a described matrix."""
    return tuple(
        TaskInfo(task["name"], task["title"], tuple(MetricInfo(**metric) for metric in task["metrics"]))
        for task in description["tasks"]
    )
