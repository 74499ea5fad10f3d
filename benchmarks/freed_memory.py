"""Freed memory: steps of a training on MNIST on one thread, in processes that keep what they free, and that do not.

And the milliseconds of a collection of garbage, with the objects of imported modules and without them.
"""

from __future__ import annotations

import argparse
import gc
import time
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Generator

from aebench.memory import keep_freed_memory
from aebench.registry.loading import create_registry
from aebench.training.fitting import fit
from aebench.training.records import Budget
from benchmarks.baseline import BATCH_SIZE
from benchmarks.measuring import Spread
from benchmarks.runner import Runner

MODELS = ("vanilla", "masked", "conv_vq_vae")
STEPS = 10


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds per step of each model in both kinds of processes, which take turns, and their ratio."""
    results: dict[str, Any] = {}
    kept, returned = (ProcessPoolExecutor(1, get_context("spawn"), _prepare, (keeps,)) for keeps in (True, False))
    with kept, returned:
        for model in MODELS:
            milliseconds: dict[str, list[float]] = defaultdict(list)
            for _ in range(max(5, options.repeats)):
                for name, pool in (("kept", kept), ("returned", returned)):
                    milliseconds[name].append(pool.submit(_milliseconds_per_step, options.data_dir, model).result())
            pairs = zip(milliseconds["kept"], milliseconds["returned"], strict=True)
            ratio = Spread.of([keeping / returning for keeping, returning in pairs])
            spreads = {name: Spread.of(values) for name, values in milliseconds.items()}
            print(f"{model:12} kept {spreads['kept']} ms a step, returned {spreads['returned']}, ratio {ratio}")
            results[model] = {name: asdict(spread) for name, spread in (spreads | {"ratio": ratio}).items()}
        results["collection"] = kept.submit(_milliseconds_of_a_collection, max(5, options.repeats)).result()
    return results


def _milliseconds_of_a_collection(repeats: int) -> dict[str, Any]:
    results = {}
    for name in ("all objects", "modules frozen"):
        spread = Spread.of([_collect() for _ in range(repeats)])
        print(f"a collection, {name}: {spread} ms", flush=True)
        results[name] = asdict(spread)
        gc.freeze()
    gc.unfreeze()  # some libraries report frozen objects as leaks when the process ends
    return results


def _collect() -> float:
    started = time.perf_counter()
    gc.collect()
    return 1000 * (time.perf_counter() - started)


def _prepare(keeps_freed_memory: bool) -> None:
    torch.set_num_threads(1)
    if keeps_freed_memory:
        keep_freed_memory()


def _milliseconds_per_step(data_dir: Path, name: str) -> float:
    runner = Runner(create_registry(), data_dir, "cpu")
    train = runner.data.train.at(slice(STEPS * BATCH_SIZE))
    data = replace(runner.data, train=train, validation=train.at(slice(1)))
    batches, noise = Generator().manual_seed(1), Generator().manual_seed(2)
    result = fit(runner.model(name), data, Budget(1, BATCH_SIZE), batches=batches, noise=noise)
    return 1000 * result.seconds / STEPS
