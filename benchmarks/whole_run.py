"""Whole runs with an empty store, digits by default settings and MNIST, and their overhead.

The overhead is the driver, which plans and writes to MLflow, and the pictures, which the workers draw.
If a data set has no reference classifier yet, the driver also trains it.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from aebench.execution.devices import cores
from aebench.tracking import schema
from benchmarks.measuring import ProcessTree
from benchmarks.start_up import run_command, store_in


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run both data sets; times in seconds, `overhead` as a share of the time of all cores, memory in bytes."""
    on_mnist = ["--epochs", str(options.epochs), "--data-dir", str(options.data_dir.absolute())]
    return {
        "digits": _measure(options.device, "digits", []),
        "mnist": _measure(options.device, "mnist", on_mnist),
    }


def _measure(device: str, dataset: str, more: list[str]) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = run_command(Path(folder), "--dataset", dataset, "--device", device, *more)
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        with ProcessTree(process.pid) as tree:
            code = process.wait()
        if code:
            raise RuntimeError(f"aebench run ended with exit code {code}")
        seconds = _seconds_by_kind(Path(folder), f"aebench-{dataset}")
    driver, drawing = tree.cpu_seconds_of(process.pid), seconds.pop("pictures")
    share = (driver + drawing) / (cores() * tree.seconds)
    print(
        f"{dataset}: {tree.seconds:.0f} s, {tree.cpu_seconds:.0f} CPU seconds; driver {driver:.0f} s and pictures "
        f"{drawing:.0f} s, {share:.1%} of the time of all cores; largest process {tree.largest_process / 1e9:.2f} GB"
    )
    print(
        "  wall seconds inside the workers, which overlap: "
        + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items())
    )
    return {
        "seconds": tree.seconds,
        "cpu_seconds": tree.cpu_seconds,
        "driver_cpu_seconds": driver,
        "picture_seconds": drawing,
        "overhead": share,
        "fit_and_evaluation_seconds": seconds,
        "largest_process_bytes": tree.largest_process,
    }


def _seconds_by_kind(folder: Path, experiment: str) -> dict[str, float]:
    """Sums of seconds over the matrix: fitting, evaluating each task, and drawing pictures, which is a part of that."""
    client = MlflowClient(store_in(folder))
    (found,) = [found for found in client.search_experiments() if found.name == experiment]
    sums: dict[str, float] = defaultdict(float)
    for run in client.search_runs([found.experiment_id], schema.of_kind(schema.Kind.MODEL)):
        sums["fit"] += schema.training_seconds(run)
        for key, (evaluating, drawing) in schema.cell_seconds(run).items():
            sums[key] += evaluating
            sums["pictures"] += drawing
    return dict(sums)
