"""Medians with their spread, the conditions of a worker, and the CPU time and memory of a tree of processes."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from statistics import median
from types import TracebackType
from typing import Self

import psutil
import torch

from aebench.memory import keep_freed_memory

INTERVAL = 1.0  # seconds between two samples of the processes; a sample costs some milliseconds


@dataclass(frozen=True)
class Spread:
    """Median and extremes of repeated measurements."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """The spread of at least one value."""
        return cls(median(values), min(values), max(values))

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.low:.3g} to {self.high:.3g})"


@contextmanager
def as_in_a_worker() -> Iterator[None]:
    """Context manager and decorator: PyTorch computes on one thread, and freed memory is kept, also afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    keep_freed_memory()
    try:
        yield
    finally:
        torch.set_num_threads(threads)


class ProcessTree:
    """A context manager that samples a process and its children: wall-clock seconds, CPU seconds, and peak memory.

    Args:
        pid: the process; None for this one.

    Attributes:
        seconds: wall-clock time, set when the context ends.
    """

    def __init__(self, pid: int | None = None) -> None:
        self._root = psutil.Process(pid)
        self._cpu: dict[int, float] = {}
        self._memory: dict[int, int] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join()
        self.seconds = time.perf_counter() - self._started

    @property
    def cpu_seconds(self) -> float:
        """User and system time of all processes, up to the last sample of each."""
        return sum(self._cpu.values())

    def cpu_seconds_of(self, pid: int) -> float:
        """User and system time of one process; 0 if it was never sampled."""
        return self._cpu.get(pid, 0.0)

    @property
    def largest_process(self) -> int:
        """Peak resident memory of the largest process, in bytes."""
        return max(self._memory.values(), default=0)

    def _watch(self) -> None:
        while not self._ended.wait(INTERVAL):
            try:
                processes = [self._root, *self._root.children(recursive=True)]
            except psutil.NoSuchProcess:
                return
            for process in processes:
                try:
                    times = process.cpu_times()
                    self._cpu[process.pid] = times.user + times.system
                    memory = process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
                self._memory[process.pid] = max(self._memory.get(process.pid, 0), memory)
