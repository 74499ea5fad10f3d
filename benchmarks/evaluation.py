"""Evaluation: seconds of latent_structure and classification on MNIST, and what fewer epochs of UMAP change.

Every case evaluates the same weights of vanilla, trained for three epochs for each seed, in the same worker.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from statistics import fmean, stdev
from typing import Any

from aebench.registry.loading import create_registry
from benchmarks.runner import Runner

EPOCHS, SEEDS = 3, 3
CASES = {
    "latent_structure, 500 epochs of UMAP": ("latent_structure", {"umap_epochs": 500}),
    "latent_structure, 200 epochs of UMAP": ("latent_structure", {"umap_epochs": 200}),
    "classification": ("classification", {}),
}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and metrics of each case: a list with one entry for each seed."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    cells = {
        cell.hash: (name, cell)
        for name, (task, params) in CASES.items()
        for cell in runner.plan(SEEDS, EPOCHS, task={"name": task, "params": params}).cells
    }
    seconds: dict[str, list[float]] = defaultdict(list)
    metrics: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in CASES}
    for evaluated, result in runner.evaluate([cell for _, cell in cells.values()]):
        name, _ = cells[evaluated.hash]
        seconds[name].append(result.seconds)
        for metric, value in result.metrics.items():
            metrics[name][metric].append(value)
    for name, values in seconds.items():
        print(f"{name}: {min(values):.1f} to {max(values):.1f} s")
        for metric, found in metrics[name].items():
            print(f"    {metric:36} {fmean(found):.4f} (standard deviation over {SEEDS} seeds {stdev(found):.4f})")
    return {"seconds": dict(seconds), "metrics": {name: dict(found) for name, found in metrics.items()}}
