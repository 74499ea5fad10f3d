"""A matrix and what is known of its cells, independent of where it is stored."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
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
