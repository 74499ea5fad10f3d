"""A matrix as JSON values that are kept with its results, and read back when the plugins are no longer there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aebench.errors import AebenchError
from aebench.planning.cells import CellResult, Status
from aebench.planning.planner import Plan
from aebench.planning.specs import cell_key
from aebench.results.matrix import MatrixResults, MetricInfo, TaskInfo, Variant

LAYOUT = 2  # raise it when the meaning of the description changes


def describe(plan: Plan) -> dict[str, Any]:
    """The matrix as JSON values: all that is needed to show its results without the plugins."""
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
        "likelihood": plan.likelihood.model_dump(mode="json"),
        "models": [
            {
                "label": model.label,
                "name": model.record.name,
                "title": model.record.title,
                "distribution": model.plugin.distribution,
                "version": model.plugin.version,
                "baseline": model.record.baseline,
                "backbone": model.backbone and model.backbone.record.name,
                "own_networks": model.record.own_networks,
                "params": model.params.model_dump(mode="json"),
                "own_training": model.training.model_dump(mode="json", exclude_none=True),
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


def results_of(description: Mapping[str, Any], found: Mapping[tuple[str, int, str], CellResult]) -> MatrixResults:
    """A described matrix with its results; a cell without one is pending.

    Args:
        description: what `describe` returned, in this layout or an earlier one.
        found: results by label of the model, seed, and key of the cell, see `cell_key`.

    Raises:
        AebenchError: the description has a later layout.
    """
    if description["layout"] > LAYOUT:
        raise AebenchError(
            f"matrix {description['matrix']} was written by a newer aebench "
            f"(layout {description['layout']}, this one reads up to {LAYOUT}); upgrade aebench"
        )
    models = description["models"]
    return MatrixResults(
        matrix=description["matrix"],
        dataset=description["dataset"]["name"],
        models=tuple(model["label"] for model in models),
        tasks=tasks_of(description),
        cells=tuple(_result_of(cell, found) for cell in description["cells"]),
        baselines=frozenset(model["label"] for model in models if model.get("baseline")),
        likelihood=description.get("likelihood", {"name": "bernoulli"}),
        own_training={model["label"]: own for model in models if (own := model.get("own_training"))},
        variants={
            model["label"]: Variant(
                model["name"], model["params"], model.get("backbone"), model.get("own_networks", "")
            )
            for model in models
        },
    )


def _result_of(cell: Mapping[str, Any], found: Mapping[tuple[str, int, str], CellResult]) -> CellResult:
    model, task, seed, held_out = cell["model"], cell["task"], cell["seed"], cell.get("held_out")
    pending = CellResult(model, task, seed, held_out, Status.PENDING)
    return found.get((model, seed, cell_key(task, held_out)), pending)
