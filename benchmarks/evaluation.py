"""Evaluation: seconds of latent_structure and classification on MNIST, and what fewer epochs of UMAP change.

Every case evaluates the same weights of vanilla, trained for three epochs for each seed, on one thread.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from aebench.execution.artifacts import FolderStore, Ref
from aebench.execution.events import Failed, Succeeded
from aebench.execution.jobs import DATA, WEIGHTS, build_jobs
from aebench.execution.run_job import JobRunner
from aebench.execution.scheduler import Scheduler
from aebench.planning.cells import CellResult
from aebench.planning.specs import TrainingSpec
from aebench.registry.loading import create_registry
from aebench.testing.in_process import InProcessExecutor
from benchmarks.measuring import one_thread
from benchmarks.runner import Runner

EPOCHS, SEEDS = 3, 3
CASES = {
    "latent_structure, 500 epochs of UMAP": ("latent_structure", {"umap_epochs": 500}),
    "latent_structure, 200 epochs of UMAP": ("latent_structure", {"umap_epochs": 200}),
    "classification": ("classification", {}),
}


@one_thread()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and metrics of each case: a list with one entry for each seed."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    seconds: dict[str, list[float]] = defaultdict(list)
    metrics: dict[str, dict[str, list[float]]] = {name: defaultdict(list) for name in CASES}
    for name, result in _results(runner):
        seconds[name].append(result.seconds)
        for metric, value in result.metrics.items():
            metrics[name][metric].append(value)
    for name, values in seconds.items():
        print(f"{name}: {min(values):.1f} to {max(values):.1f} s")
        for metric, found in metrics[name].items():
            print(f"    {metric:36} {fmean(found):.4f} (standard deviation over {SEEDS} seeds {stdev(found):.4f})")
    return {"seconds": dict(seconds), "metrics": {name: dict(found) for name, found in metrics.items()}}


def _results(runner: Runner) -> Iterator[tuple[str, CellResult]]:
    """The result of each case and seed; the first case trains, the others get its weights."""
    with tempfile.TemporaryDirectory() as folder:
        artifacts = FolderStore(Path(folder))
        data = artifacts.put_written(runner.data.save)
        job_runner = JobRunner(runner.registry, artifacts, torch.device("cpu"))
        job_runner.prepare(["latent_structure"], data)
        weights: dict[str, Ref] = {}
        for name, (task, params) in CASES.items():
            cells = runner.plan(SEEDS, EPOCHS, task={"name": task, "params": params}).cells
            jobs = build_jobs(cells, {DATA: data}, weights, (), None)
            specs = {job.id: job.spec for job in jobs}
            for event in Scheduler(jobs, InProcessExecutor(job_runner)).run():
                if isinstance(event, Failed):
                    raise RuntimeError(event.error)
                if isinstance(event, Succeeded):
                    spec = specs[event.job_id]
                    if isinstance(event.result, CellResult):
                        yield name, event.result
                    elif isinstance(spec, TrainingSpec):
                        weights[spec.hash] = event.artifacts[WEIGHTS]
