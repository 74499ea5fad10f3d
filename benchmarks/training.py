"""Training: images per second of the baseline and of aebench's runner with all cores busy, vanilla on MNIST.

Baseline and aebench take turns, so that drift cancels. An epoch is 55,000 images trained on, which are counted, and
5,000 to validate. Of the baseline whole epochs are timed; of aebench the trainings that the executor runs side by side,
one on each core, each by its own clock and without start-up.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from aebench.building import build_model
from aebench.config import load_benchmark
from aebench.datasets import load_dataset
from aebench.executors import LocalExecutor
from aebench.hardware import cores
from aebench.jobs import Training
from aebench.planner import plan
from aebench.registry import Registry, create_registry
from aebench.work import CellDone, Trained, Unit
from benchmarks.baseline import BATCH_SIZE, TRAINING_IMAGES, Baseline
from benchmarks.ceiling import matmul_rate, training_flops
from benchmarks.measuring import ProcessTree, Spread

EPOCHS = 4
TRAINED_IMAGES = TRAINING_IMAGES // BATCH_SIZE * BATCH_SIZE  # aebench leaves an incomplete batch for another epoch


def measure(options: argparse.Namespace) -> dict[str, Any]:
    registry = create_registry()
    runner = Runner(registry, options.data_dir, options.device)
    baseline = Baseline(options.data_dir, options.device)
    baseline.epoch()  # starts the loader's workers
    rates: dict[str, list[float]] = defaultdict(list)
    memory = 0
    for _ in range(options.repeats):
        rates["baseline"].append(TRAINING_IMAGES / baseline.epoch())
        for precision in ("fp32", "bf16"):
            with ProcessTree() as tree:
                rates[precision].append(runner.images_per_second(precision))
            memory = max(memory, tree.largest_process)
    flops = training_flops(build_model(registry, runner.trainings("fp32")[0], (1, 32, 32)))
    ceilings = {precision: matmul_rate(precision, options.device) for precision in ("fp32", "bf16")}
    rows = [_row(name, values, rates["baseline"], flops, ceilings) for name, values in rates.items()]
    print(f"{'':10}{'images/s':>28}{'s/epoch':>10}{'ratio to the baseline':>28}{'of the ceiling':>16}")
    for row in rows:
        share = "" if row["ceiling"] is None else f"{row['share_of_ceiling']:.0%} of {row['ceiling'] / 1e9:.0f} GFLOP/s"
        rate, ratio = Spread(**row["images_per_second"]), Spread(**row["ratio"])
        print(f"{row['name']:10}{rate!s:>28}{row['seconds_per_epoch']:10.2f}{ratio!s:>28}  {share}")
    print(f"{flops / 1e6:.2f} MFLOP per image; largest process {memory / 1e9:.2f} GB")
    return {"rows": rows, "flops_per_image": flops, "largest_process_bytes": memory}


class Runner:
    """Trainings of vanilla through the executor, as many at once as it runs by default."""

    def __init__(self, registry: Registry, data_dir: Path, device: str) -> None:
        self._registry = registry
        self._device = torch.device(device)
        record = registry.dataset("mnist").record
        self._data = load_dataset(record, record.params(), data_dir, 42)
        config = {
            ("dataset",): "mnist",
            ("models",): ["vanilla"],
            ("tasks",): ["reconstruction"],
            ("seeds",): cores() if device == "cpu" else 1,
            ("training", "epochs"): EPOCHS,
        }
        self._benchmark = load_benchmark(registry, None, config)

    def trainings(self, precision: str) -> tuple[Training, ...]:
        return plan(self._benchmark, self._data.info, precision).trainings

    def images_per_second(self, precision: str) -> float:
        """Of all trainings together."""
        units = [Unit(training, ()) for training in self.trainings(precision)]
        rate = 0.0
        for message in LocalExecutor(self._registry, self._device).run(units, self._data, judge=None):
            if isinstance(message, Trained):
                rate += EPOCHS * TRAINED_IMAGES / message.result.seconds
            elif isinstance(message, CellDone):
                raise RuntimeError(message.reason)
        return rate


def _row(
    name: str, rates: list[float], baseline: list[float], flops: float, ceilings: dict[str, float]
) -> dict[str, Any]:
    rate = Spread.of(rates)
    ceiling = ceilings.get(name)
    return {
        "name": name,
        "images_per_second": asdict(rate),
        "seconds_per_epoch": TRAINING_IMAGES / rate.median,
        "ratio": asdict(Spread.of([ours / theirs for ours, theirs in zip(rates, baseline, strict=True)])),
        "ceiling": ceiling,
        "share_of_ceiling": None if ceiling is None else rate.median * flops / ceiling,
    }
