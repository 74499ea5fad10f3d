"""Concurrent trainings: seconds for one training of vanilla on MNIST, and for several seeds concurrently."""

from __future__ import annotations

import argparse
from collections import defaultdict
from dataclasses import asdict
from typing import Any

from aebench.execution.devices import cores
from aebench.registry.loading import create_registry
from benchmarks.measuring import Spread
from benchmarks.runner import Runner

SEEDS_ON_CUDA = 5
EPOCHS_ON_CPU = 4  # enough to compare


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds until all trainings are done, by their number, and the ratio of several to one."""
    runner = Runner(create_registry(), options.data_dir, options.device)
    on_cpu = options.device == "cpu"
    seeds, epochs = (cores(), min(EPOCHS_ON_CPU, options.epochs)) if on_cpu else (SEEDS_ON_CUDA, options.epochs)
    seconds: dict[int, list[float]] = defaultdict(list)
    for _ in range(options.repeats):
        for count in (1, seeds):
            seconds[count].append(runner.seconds_for_all(count, epochs))
    ratio = Spread.of([many / one for one, many in zip(seconds[1], seconds[seeds], strict=True)])
    for count, values in seconds.items():
        print(f"{epochs} epochs, {count} concurrent trainings: {Spread.of(values)} s until the last is done")
    print(f"{seeds} concurrent trainings take {ratio} times as long as one")
    return {
        "epochs": epochs,
        "seconds": {count: asdict(Spread.of(values)) for count, values in seconds.items()},
        "ratio": asdict(ratio),
    }
