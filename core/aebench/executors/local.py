"""Worker processes on this machine, fed by a thread so that they never wait for whoever reads their results."""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from aebench.contracts import ImageDataset
from aebench.errors import AebenchError
from aebench.registry import create_registry
from aebench.work import CellDone, Message, Unit, Workplace

# One thread per training on the CPU: results then do not depend on how many run at once, and on networks of this
# size two single-threaded trainings side by side are faster than two threads on one.
GRACE_SECONDS = 5.0  # for a worker that has nothing left to do
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def choose_device(wish: str) -> torch.device:
    """`auto` is the CUDA device where there is one, else the CPU.

    Raises:
        AebenchError: the wish is no device, or not one of this machine's.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise AebenchError(f"--device: '{wish}' is not a device aebench knows; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise AebenchError(f"--device: '{wish}' is not there; this machine has {count or 'no'} CUDA devices; try cpu")
    return device


class LocalExecutor:
    """Runs units in worker processes.

    Args:
        device: where the workers train.
        jobs: worker processes; None for one per core on the CPU, one on a CUDA device.
    """

    def __init__(self, device: torch.device, jobs: int | None = None) -> None:
        self._device = device
        self._jobs = jobs or (_cores() if device.type == "cpu" else 1)

    def run(self, units: Sequence[Unit], data: ImageDataset) -> Generator[Message, None, None]:
        """Work on all units; yields what happens as it happens. Closing the iterator ends the workers at once."""
        with tempfile.TemporaryDirectory(prefix="aebench-") as folder:
            path = Path(folder, "data.safetensors")
            data.save(path)
            pool = _Pool(units, path, self._device, min(self._jobs, len(units)))
            try:
                yield from pool.messages()
            finally:
                pool.stop()


@dataclass
class _Worker:
    process: SpawnProcess
    pipe: Connection
    unit: Unit | None = None
    done: int = 0  # cells of the unit that have been reported


class _Idle:
    """Sent by a worker that waits for a unit."""


class _Pool:
    """Workers and the thread that deals units to them and collects their messages."""

    def __init__(self, units: Sequence[Unit], data: Path, device: torch.device, size: int) -> None:
        # Long units first, so that no worker is left alone with one at the end.
        self._waiting = deque(sorted(units, key=lambda unit: -len(unit.cells)))
        self._data = data
        self._device = device
        self._queue: queue.SimpleQueue[Message | BaseException | None] = queue.SimpleQueue()
        self._workers = [self._start() for _ in range(size)]
        self._thread = threading.Thread(target=self._pump, name="aebench-workers", daemon=True)
        self._thread.start()

    def messages(self) -> Iterator[Message]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        self._waiting.clear()
        for worker in list(self._workers):
            worker.process.terminate()
        self._thread.join(timeout=10)
        for worker in list(self._workers):
            worker.process.kill()

    def _start(self) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, self._data, str(self._device)), name="aebench-worker")
        with _single_threaded() if self._device.type == "cpu" else contextlib.nullcontext():
            process.start()
        theirs.close()
        return _Worker(process, ours)

    def _pump(self) -> None:
        try:
            while self._workers:
                for ready in connection.wait([worker.pipe for worker in self._workers]):
                    worker = next(worker for worker in self._workers if worker.pipe is ready)
                    try:
                        self._receive(worker, worker.pipe.recv())
                    except (EOFError, OSError):
                        self._bury(worker)
            if self._waiting:
                raise AebenchError("the worker processes ended before all work was done")
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)

    def _receive(self, worker: _Worker, item: Message | _Idle) -> None:
        if isinstance(item, _Idle):
            worker.unit = self._waiting.popleft() if self._waiting else None
            worker.done = 0
            worker.pipe.send(worker.unit)
            return
        worker.done += isinstance(item, CellDone)
        self._queue.put(item)

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended: as told, or by a crash, which costs the cells it had not reported."""
        self._workers.remove(worker)
        worker.process.join(GRACE_SECONDS)
        worker.process.kill()  # a thread that a plugin left behind must not keep it alive
        worker.process.join()
        worker.pipe.close()
        if worker.unit is None and worker.process.exitcode == 0:
            return
        reason = f"the worker process died ({_exit_reason(worker.process.exitcode)})"
        for cell in worker.unit.cells[worker.done :] if worker.unit else ():
            self._queue.put(CellDone(cell, "failed", reason=reason))
        if worker.unit is None and self._waiting and not self._workers:
            raise AebenchError(f"{reason} before it could take up any work")
        if worker.unit is not None and self._waiting:
            self._workers.append(self._start())


def _serve(pipe: Connection, data: Path, device: str) -> None:
    """A worker's life: ask for a unit, work on it, report; until there is none, or nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    if device == "cpu":
        torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        workplace = Workplace(create_registry(), ImageDataset.open(data), torch.device(device))
        pipe.send(_Idle())
        while (unit := pipe.recv()) is not None:
            workplace.work(unit, pipe.send)
            pipe.send(_Idle())
    pipe.close()


def _cores() -> int:
    """Cores this process may use; not every system can tell, then all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """The environment in which a started process uses one thread in every numerical library."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _exit_reason(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"
