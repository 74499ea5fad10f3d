"""Worker processes: seconds until one is ready, and its memory, forked from a server or spawned."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
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

LEAD = 4.0  # seconds; importing MLflow and opening the store take as long


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
        for name, lead in {"the first, with its server": 0.0, "the first, server started before": LEAD}.items():
            spread = Spread.of([_first(config, lead) for _ in range(options.repeats)])
            results[name] = {"seconds": asdict(spread)}
            print(f"{name:33} {spread} s")
    return results


def _first(config: worker.WorkerConfig, lead: float) -> float:
    """Seconds until the first worker of a new process is ready, whose server was started so much earlier, if at all."""
    with ProcessPoolExecutor(1, get_context("spawn")) as driver:
        return driver.submit(_start_first, config, lead).result()


def _start_first(config: worker.WorkerConfig, lead: float) -> float:
    if lead:
        worker.start_server()
        time.sleep(lead)
    return _start(config)[0]


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
