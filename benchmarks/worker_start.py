"""Worker processes: seconds until one is ready, and its memory, forked from a server or spawned."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import psutil

from aebench.datasets import load_dataset
from aebench.execution import worker
from aebench.execution.artifacts import FolderStore
from aebench.registry.loading import create_registry
from benchmarks.measuring import Spread


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and proportional memory (each shared page divided by the processes that share it) of one worker."""
    record = create_registry().dataset("digits").record
    data = load_dataset(record, record.params(), Path(), seed=0)
    cases: dict[str, Callable[[], AbstractContextManager[object]]] = {
        "as aebench starts it": nullcontext,
        "spawned": lambda: mock.patch.object(worker, "_context", return_value=get_context("spawn")),
    }
    results = {}
    with tempfile.TemporaryDirectory() as folder:
        config = worker.WorkerConfig(
            Path(folder), FolderStore(Path(folder)).put_written(data.save), options.device, without=()
        )
        for name, condition in cases.items():
            with condition():
                _start(config)  # the first one waits until the server has imported PyTorch
                seconds, megabytes = zip(*(_start(config) for _ in range(max(5, options.repeats))), strict=True)
            results[name] = {"seconds": asdict(Spread.of(seconds)), "megabytes": asdict(Spread.of(megabytes))}
            print(f"{name:20} {Spread.of(seconds)} s, {Spread.of(megabytes)} MB")
    return results


def _start(config: worker.WorkerConfig) -> tuple[float, float]:
    """Start a worker and end it; return the seconds until it was ready, and its memory in megabytes."""
    started = time.perf_counter()
    process, pipe = worker.start_worker(config)
    pipe.recv()
    seconds = time.perf_counter() - started
    memory = psutil.Process(process.pid).memory_full_info().pss
    pipe.close()
    process.join()
    return seconds, memory / 1e6
