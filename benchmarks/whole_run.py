"""A whole run: `aebench run --dataset mnist` in an empty store, and the share of its CPU time that the driver takes.

The driver plans, talks to MLflow and exports models; the workers fit and evaluate. Pictures are drawn in the workers
and count there as part of their cells, whose seconds are printed by task.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

from benchmarks.measuring import ProcessTree
from benchmarks.start_up import AEBENCH


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        command = [
            str(AEBENCH),
            "run",
            "--dataset",
            "mnist",
            "--epochs",
            str(options.epochs),
            "--device",
            options.device,
        ]
        command += ["--data-dir", str(options.data_dir.absolute()), "--tracking-uri", "sqlite:///mlflow.db"]
        process = subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL)
        with ProcessTree(process.pid) as tree:
            code = process.wait()
        if code:
            raise RuntimeError(f"aebench run ended with exit code {code}")
        seconds = _seconds_by_kind(Path(folder))
    results = {
        "seconds": tree.seconds,
        "cpu_seconds": tree.cpu_seconds,
        "driver_cpu_seconds": tree.cpu_seconds_of(process.pid),
        "driver_share": tree.cpu_seconds_of(process.pid) / tree.cpu_seconds,
        "fit_and_evaluation_seconds": seconds,
        "largest_process_bytes": tree.largest_process,
    }
    print(
        f"{options.epochs} epochs: {tree.seconds:.0f} s, {tree.cpu_seconds:.0f} CPU seconds, "
        f"{results['driver_share']:.1%} of them in the driver (planning, MLflow, exports); "
        f"largest process {tree.largest_process / 1e9:.2f} GB"
    )
    print("wall seconds inside the workers: " + ", ".join(f"{name} {value:.0f}" for name, value in seconds.items()))
    return results


def _seconds_by_kind(folder: Path) -> dict[str, float]:
    """Sums over the matrix: fitting, and evaluating each task."""
    client = MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "aebench-mnist"]
    sums: dict[str, float] = {}
    for run in client.search_runs([experiment.experiment_id]):
        for key, value in run.data.metrics.items():
            if key.startswith("train.") and key.endswith(".seconds"):
                sums["fit"] = sums.get("fit", 0) + value
            elif key.startswith("time."):
                name = key.removeprefix("time.")
                sums[name] = sums.get(name, 0) + value
    return sums
