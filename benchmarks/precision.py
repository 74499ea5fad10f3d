"""Precision: every metric of the article's nine variants on MNIST, in bf16 beside fp32, over three seeds.

Repetitions are paired by their seed. A metric has changed when a paired t-test says so after correction for the number
of metrics (Benjamini & Hochberg 1995); without it one in twenty would seem to have.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from collections import defaultdict
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, TypeAlias

from scipy.stats import false_discovery_control, ttest_rel

from aebench.registry import create_registry
from benchmarks.scaling import MODELS
from benchmarks.start_up import AEBENCH

SEEDS = 3
LEVEL = 0.05
Values: TypeAlias = dict[tuple[str, str, str], list[float]]  # (model, task, metric) -> a value per seed


def measure(options: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        store = f"sqlite:///{Path(folder) / 'mlflow.db'}"
        for precision in ("fp32", "bf16"):
            command = [
                *(AEBENCH, "run", "--dataset", "mnist", "--data-dir", options.data_dir.absolute()),
                *("--models", ",".join(MODELS), "--epochs", options.epochs, "--seeds", SEEDS),
                *("--device", options.device, "--precision", precision),
                *("--tracking-uri", store, "--experiment", precision),
            ]
            subprocess.run(list(map(str, command)), cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return compare(*(_values(store, precision) for precision in ("fp32", "bf16")))


def compare(full: Values, half: Values) -> dict[str, Any]:
    """Print what has changed and the primary metrics, and return every comparison."""
    varying = [key for key, values in full.items() if values != half[key]]
    p_values = [float(ttest_rel(half[key], full[key]).pvalue) for key in varying]
    adjusted = dict(zip(varying, false_discovery_control(p_values).tolist(), strict=True))
    changed = [".".join(key) for key in varying if adjusted[key] < LEVEL]
    print(f"of {len(full)} metrics {len(changed)} have changed: {', '.join(changed) or 'none'}")
    seemingly = sum(p < LEVEL for p in p_values)
    print(f"(before correction {seemingly} would seem to have; by chance {LEVEL * len(varying):.0f} would)")
    primary = {(name, task.record.primary.name) for name, task in create_registry().tasks.items()}
    for model, task, metric in sorted(full, key=lambda key: key[1:]):
        if (task, metric) in primary:
            values, others = full[model, task, metric], half[model, task, metric]
            print(
                f"{task + '.' + metric:40} {model:16} fp32 {fmean(values):8.4g} ± {stdev(values):<8.2g} "
                f"bf16 {fmean(others):8.4g} ± {stdev(others):<8.2g}"
            )
    metrics = [
        {"metric": ".".join(key), "fp32": full[key], "bf16": half[key], "p": adjusted.get(key, 1.0)} for key in full
    ]
    return {"changed": changed, "metrics": metrics}


def _values(store: str, experiment: str) -> Values:
    command = [str(AEBENCH), "results", "--json", "--tracking-uri", store, "--experiment", experiment]
    cells = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["cells"]
    values: Values = defaultdict(list)
    for cell in sorted(cells, key=lambda cell: int(cell["seed"])):
        for metric, value in cell["metrics"].items():
            values[cell["model"], cell["task"], metric].append(value)
    return dict(values)
