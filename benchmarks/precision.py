"""Precision: every metric of the article's nine variants on MNIST in bf16 and in fp32, over three seeds.

Runs are paired by their seed. A metric differs if a paired t-test is significant after correction for the number of
metrics (Benjamini & Hochberg 1995). Three pairs show only large differences; the benchmark also counts the means in
bf16 that lie within the 95 % confidence interval of the mean in fp32.
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

from aebench.registry.loading import create_registry
from aebench.results.statistics import adjusted_p_values, confidence_interval, paired_t_test
from benchmarks.scaling import MODELS
from benchmarks.start_up import AEBENCH, run_command, store_in

SEEDS = 3
SIGNIFICANCE_LEVEL = 0.05
Values: TypeAlias = dict[tuple[str, str, str], dict[int, float]]  # (model, task, metric) -> a value by seed


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the matrix in both precisions and compare them."""
    with tempfile.TemporaryDirectory() as folder:
        for precision in ("fp32", "bf16"):
            options_of_run = (
                *("--dataset", "mnist", "--data-dir", options.data_dir.absolute(), "--models", ",".join(MODELS)),
                *("--epochs", options.epochs, "--seeds", SEEDS, "--device", options.device),
                *("--precision", precision, "--experiment", precision),
            )
            command = run_command(Path(folder), *options_of_run)
            subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        return compare(*(_values(store_in(Path(folder)), precision) for precision in ("fp32", "bf16")))


def compare(full: Values, half: Values) -> dict[str, Any]:
    """Print the metrics that differ and the primary metrics; return all comparisons."""
    pairs = {}
    for key in sorted(full, key=lambda key: key[1:]):
        seeds = sorted(full[key].keys() & half.get(key, {}).keys())
        if len(seeds) > 1:
            pairs[key] = [full[key][seed] for seed in seeds], [half[key][seed] for seed in seeds]
    varying = [key for key, (one, other) in pairs.items() if one != other]
    p_values = [paired_t_test(*pairs[key]) for key in varying]
    adjusted = dict(zip(varying, adjusted_p_values(p_values), strict=True))
    differing = [".".join(key) for key in varying if adjusted[key] < SIGNIFICANCE_LEVEL]
    inside = sum(_is_inside(*both) for both in pairs.values())
    print(f"of {len(pairs)} metrics {len(differing)} differ significantly: {', '.join(differing) or 'none'}")
    print(f"of the means in bf16 {inside} lie within the 95 % confidence interval of those in fp32")
    uncorrected = sum(p < SIGNIFICANCE_LEVEL for p in p_values)
    print(f"(without correction {uncorrected} would; {SIGNIFICANCE_LEVEL * len(varying):.0f} are expected by chance)")
    primary = {(name, task.record.primary.name) for name, task in create_registry().tasks.items()}
    for (model, task, metric), both in pairs.items():
        if (task, metric) in primary:
            shown = (f"{fmean(values):8.4g} (sd {stdev(values):.2g})" for values in both)
            print("{:40} {:16} fp32 {:24} bf16 {}".format(f"{task}.{metric}", model, *shown))
    metrics = [
        {"metric": ".".join(key), "fp32": one, "bf16": other, "p": adjusted.get(key, 1.0)}
        for key, (one, other) in pairs.items()
    ]
    return {"differing": differing, "inside": inside, "metrics": metrics}


def _is_inside(one: list[float], other: list[float]) -> bool:
    """Whether the mean of `other` lies within the 95 % confidence interval of the mean of `one`."""
    interval = confidence_interval(one)
    return interval is not None and interval.low <= fmean(other) <= interval.high


def _values(store: str, experiment: str) -> Values:
    command = [str(AEBENCH), "results", "--json", "--tracking-uri", store, "--experiment", experiment]
    cells = json.loads(subprocess.run(command, check=True, capture_output=True).stdout)["cells"]
    values: Values = defaultdict(dict)
    for cell in cells:
        for metric, value in cell["metrics"].items():
            if value is not None:  # null stands for a value that is not finite
                values[cell["model"], cell["task"], metric][int(cell["seed"])] = value
    return dict(values)
