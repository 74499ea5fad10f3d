"""Scaling: seconds for a matrix on digits, by the number of models and of concurrent trainings."""

from __future__ import annotations

import argparse
import subprocess
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aebench.execution.allocation import CONCURRENT_TRAININGS
from aebench.execution.devices import cores
from benchmarks.measuring import Spread
from benchmarks.start_up import run_command

MODELS = ("vanilla", "vae", "sparse", "denoising", "shallow", "beta_vae_strict", "beta_vae_loose", "vq_vae", "stacked")
TASKS = "reconstruction,anomaly_detection"
EPOCHS = 300


def measure(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Seconds of a whole run for each number of models and of concurrent trainings."""
    jobs = sorted({1, cores() if options.device == "cpu" else CONCURRENT_TRAININGS})
    cases = [(models, workers) for models in (1, 3, 9) for workers in jobs]
    seconds: dict[tuple[int, int], list[float]] = {case: [] for case in cases}
    for _ in range(options.repeats):
        for case in cases:
            seconds[case].append(_seconds(*case, options.device))
    results = []
    for (models, workers), values in seconds.items():
        spread = Spread.of(values)
        print(f"{models} models, {workers} concurrent: {spread} s")
        results.append({"models": models, "jobs": workers, "seconds": asdict(spread)})
    return results


def _seconds(models: int, jobs: int, device: str) -> float:
    with tempfile.TemporaryDirectory() as folder:
        command = run_command(
            Path(folder), "--models", ",".join(MODELS[:models]), "--tasks", TASKS, "--epochs", EPOCHS,
            "--jobs", jobs, "--device", device,
        )  # fmt: skip
        started = time.perf_counter()
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - started
