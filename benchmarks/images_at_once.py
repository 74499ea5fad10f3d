"""Images at once: seconds to reconstruct the test images of MNIST in batches of different sizes, on one thread."""

from __future__ import annotations

import argparse
import time
from collections import defaultdict
from dataclasses import asdict
from typing import Any

import torch

from aebench.contracts import Autoencoder, Split
from aebench.contracts.data import IMAGES_AT_ONCE
from aebench.registry.loading import create_registry
from aebench.training.fast_products import fast_products
from benchmarks.measuring import Spread, as_in_a_worker
from benchmarks.runner import Runner

MODELS = ("vanilla", "vae", "masked", "conv_vq_vae")
SIZES = (1000, IMAGES_AT_ONCE, 64)


@as_in_a_worker()
def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds by model and size; the sizes take turns."""
    runner = Runner(create_registry(), options.data_dir, "cpu")
    results: dict[str, Any] = {}
    for name in MODELS:
        model, seconds = runner.model(name).eval(), defaultdict(list)
        for _ in range(options.repeats):
            for size in SIZES:
                seconds[size].append(_seconds(model, runner.data.test, size))
        spreads = {size: Spread.of(values) for size, values in seconds.items()}
        print(f"{name:12}" + ", ".join(f"{size} at once: {spread} s" for size, spread in spreads.items()))
        results[name] = {size: asdict(spread) for size, spread in spreads.items()}
    return results


@torch.no_grad()
def _seconds(model: Autoencoder, test: Split, size: int) -> float:
    model.images_at_once = size
    started = time.perf_counter()
    with fast_products(torch.device("cpu")):
        for x in test.batches(size):
            model.reconstruct(x)
    return time.perf_counter() - started
