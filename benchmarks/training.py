"""Training: images per second of the baseline and of aebench on all cores, vanilla on MNIST.

Baseline and aebench take turns, so that drift cancels. An epoch trains on 55,000 images, which are counted, and
validates on 5,000. Whole epochs of the baseline are timed. aebench runs concurrent trainings, one on each core; each
measures its own time without start-up.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from aebench.execution.devices import cores
from aebench.registry.loading import create_registry
from benchmarks.baseline import BATCH_SIZE, TRAINING_IMAGES, Baseline
from benchmarks.ceiling import matmul_rate, training_flops
from benchmarks.measuring import ProcessTree, Spread
from benchmarks.runner import Runner

EPOCHS = 4
TRAINED_IMAGES = TRAINING_IMAGES // BATCH_SIZE * BATCH_SIZE  # aebench drops the last, incomplete batch


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Images per second and seconds per epoch, their ratio to the baseline, and their share of the ceiling."""
    registry = create_registry()
    runner = Runner(registry, options.data_dir, options.device)
    baseline = Baseline(options.data_dir, options.device)
    baseline.epoch()  # starts the loader's workers
    rates: dict[str, list[float]] = defaultdict(list)
    concurrent = cores() if options.device == "cpu" else 1
    memory = 0
    for _ in range(options.repeats):
        rates["baseline"].append(TRAINING_IMAGES / baseline.epoch())
        for precision in ("fp32", "bf16"):
            with ProcessTree() as tree:
                seconds = runner.seconds(concurrent, EPOCHS, precision)
            rates[precision].append(sum(EPOCHS * TRAINED_IMAGES / value for value in seconds))
            memory = max(memory, tree.largest_process)
    flops = training_flops(runner.model())
    ceilings = {precision: matmul_rate(precision, options.device) for precision in ("fp32", "bf16")}
    rows = [_row(name, values, rates["baseline"], flops, ceilings) for name, values in rates.items()]
    print(f"{'':10}{'images/s':>28}{'s/epoch':>10}{'ratio to the baseline':>28}{'of the ceiling':>16}")
    for row in rows:
        share = "" if row["ceiling"] is None else f"{row['share_of_ceiling']:.0%} of {row['ceiling'] / 1e9:.0f} GFLOP/s"
        rate, ratio = Spread(**row["images_per_second"]), Spread(**row["ratio"])
        print(f"{row['name']:10}{rate!s:>28}{row['seconds_per_epoch']:10.2f}{ratio!s:>28}  {share}")
    print(f"{flops / 1e6:.2f} MFLOP per image; largest process {memory / 1e9:.2f} GB")
    return {"rows": rows, "flops_per_image": flops, "largest_process_bytes": memory}


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
