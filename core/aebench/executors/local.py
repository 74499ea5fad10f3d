"""Worker processes on this machine, fed by a thread so that they never wait for whoever reads their results.

Trainers train models and ask them the quick questions. One evaluator takes the tasks that are slow to start (their
records have a `warm_up`): it pays for imports and compilation once, while the first models train, and then gets each
trained model as it comes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import signal
import tempfile
import threading
from collections import deque
from collections.abc import Collection, Generator, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing import connection, get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from aebench.contracts import ImageDataset
from aebench.errors import AebenchError
from aebench.hardware import cores
from aebench.jobs import Cell
from aebench.judges import ConvolutionalJudge, load_judge, save_judge
from aebench.registry import Origin, Registry, create_registry
from aebench.work import CellDone, Message, Trained, Unit, Workplace

# One thread per training on the CPU: results then do not depend on how many run at once, and on networks of this
# size two single-threaded trainings side by side are faster than two threads on one.
GRACE_SECONDS = 5.0  # for a worker that has nothing left to do
DATA, JUDGE = "data.safetensors", "judge.safetensors"  # in the folder that workers share
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


class LocalExecutor:
    """Runs units in worker processes.

    Args:
        registry: the plugins; says which tasks are slow to start.
        device: where the workers train.
        jobs: trainers; None for one per core on the CPU, one on a CUDA device.
    """

    def __init__(self, registry: Registry, device: torch.device, jobs: int | None = None) -> None:
        self._slow = {name for name, task in registry.tasks.items() if task.record.warm_up is not None}
        self._broken = registry.broken
        self._device = device
        self._jobs = jobs or (cores() if device.type == "cpu" else 1)

    def run(
        self, units: Sequence[Unit], data: ImageDataset, judge: ConvolutionalJudge | None
    ) -> Generator[Message, None, None]:
        """Work on all units; yields what happens as it happens. Closing the iterator ends the workers at once."""
        with tempfile.TemporaryDirectory(prefix="aebench-") as name:
            folder = Path(name)
            data.save(folder / DATA)
            if judge is not None:
                save_judge(judge, folder / JUDGE)
            pool = _Pool(units, self._slow, folder, self._device, self._jobs, self._broken)
            try:
                yield from pool.messages()
            finally:
                pool.stop()


@dataclass
class _Worker:
    """A process; `warms_up` names the slow tasks of an evaluator, and is empty for a trainer."""

    process: SpawnProcess
    pipe: Connection
    warms_up: tuple[str, ...]
    ready: bool = False  # has asked for work at least once
    idle: bool = False
    unit: Unit | None = None
    done: int = 0  # cells of the unit that have been reported
    trained: bool = False


class _Idle:
    """Sent by a worker that waits for a unit."""


class _Pool:
    """Workers and the thread that deals units to them and collects their messages."""

    def __init__(
        self,
        units: Sequence[Unit],
        slow: Collection[str],
        folder: Path,
        device: torch.device,
        trainers: int,
        broken: Collection[Origin],
    ) -> None:
        self._folder = folder
        self._broken = broken
        self._device = device
        self._queue: queue.SimpleQueue[Message | BaseException | None] = queue.SimpleQueue()
        # Long units first, so that no worker is left alone with one at the end.
        split = [_split(unit, slow) for unit in sorted(units, key=lambda unit: -len(unit.cells))]
        self._trainings = deque(unit for unit, _ in split if unit is not None)
        self._evaluations = deque(unit for _, unit in split if unit is not None)
        self._stopping = False
        self._no_evaluator = ""  # why there is none any more
        self._warms_up = tuple(sorted({cell.task for unit in units for cell in unit.cells if cell.task in slow}))
        self._workers = [self._start() for _ in range(min(trainers, len(self._trainings)))]
        if self._warms_up:
            self._workers.append(self._start(self._warms_up))
        self._thread = threading.Thread(target=self._pump, name="aebench-workers", daemon=True)
        self._thread.start()

    def messages(self) -> Iterator[Message]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        self._stopping = True
        self._trainings.clear()
        self._evaluations.clear()
        for worker in list(self._workers):
            worker.process.terminate()
        self._thread.join(timeout=10)
        for worker in list(self._workers):
            worker.process.kill()

    def _start(self, warms_up: tuple[str, ...] = ()) -> _Worker:
        context = get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (theirs, self._folder, str(self._device), warms_up, self._broken)
        process = context.Process(target=_serve, args=arguments, name="aebench-worker")
        with _single_threaded() if self._device.type == "cpu" else contextlib.nullcontext():
            process.start()
        theirs.close()
        return _Worker(process, ours, warms_up)

    def _pump(self) -> None:
        try:
            while self._workers:
                for ready in connection.wait([worker.pipe for worker in self._workers]):
                    worker = next(worker for worker in self._workers if worker.pipe is ready)
                    try:
                        self._receive(worker, worker.pipe.recv())
                    except (EOFError, OSError):
                        self._bury(worker)
                self._deal()
            if self._trainings or self._evaluations:
                raise AebenchError("the worker processes ended before all work was done")
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)

    def _receive(self, worker: _Worker, item: Message | _Idle) -> None:
        if isinstance(item, _Idle):
            worker.ready, worker.idle, worker.unit = True, True, None
            return
        if isinstance(item, Trained):
            worker.trained = True
            if worker.unit is not None and worker.unit.deferred:
                self._evaluations.append(Unit(item.training, worker.unit.deferred, item.weights))
        worker.done += isinstance(item, CellDone)
        self._queue.put(item)

    def _deal(self) -> None:
        """Give every idle worker something to do, or tell it that nothing will come."""
        if self._no_evaluator:
            while self._evaluations:
                self._fail(self._evaluations.popleft().cells, self._no_evaluator)
        for worker in [worker for worker in self._workers if worker.idle]:
            waiting = self._evaluations if worker.warms_up else self._trainings
            if not waiting and worker.warms_up and self._is_training():
                continue  # a trained model may come yet
            worker.idle, worker.done, worker.trained = False, 0, False
            worker.unit = waiting.popleft() if waiting else None
            with contextlib.suppress(OSError):  # it has just died, and will be buried
                worker.pipe.send(worker.unit)

    def _is_training(self) -> bool:
        return bool(self._trainings) or any(worker.unit and not worker.warms_up for worker in self._workers)

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
        if not worker.ready:  # another one would not fare better
            if worker.warms_up:
                self._no_evaluator = reason
            elif self._trainings and not any(not other.warms_up for other in self._workers):
                raise AebenchError(f"{reason} before it could take up any work")
            return
        if unit := worker.unit:
            self._fail((unit.cells if worker.trained else (*unit.cells, *unit.deferred))[worker.done :], reason)
        more_to_do = (self._is_training() or self._evaluations) if worker.warms_up else self._trainings
        if more_to_do and not self._stopping:
            self._workers.append(self._start(worker.warms_up))

    def _fail(self, cells: Sequence[Cell], reason: str) -> None:
        for cell in cells:
            self._queue.put(CellDone(cell, "failed", reason=reason))


def _split(unit: Unit, slow: Collection[str]) -> tuple[Unit | None, Unit | None]:
    """What a trainer does of a unit, and what an evaluator can do at once because the model is already trained."""
    quick = tuple(cell for cell in unit.cells if cell.task not in slow)
    later = tuple(cell for cell in unit.cells if cell.task in slow)
    if unit.weights is None:
        return replace(unit, cells=quick, deferred=later), None
    return replace(unit, cells=quick) if quick else None, replace(unit, cells=later) if later else None


def _serve(pipe: Connection, folder: Path, device: str, warms_up: tuple[str, ...], broken: Collection[Origin]) -> None:
    """A worker's life: ask for a unit, work on it, report; until there is none, or nobody listens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    if device == "cpu":
        torch.set_num_threads(1)
    with contextlib.suppress(EOFError, BrokenPipeError):
        judge = load_judge(folder / JUDGE).to(device) if (folder / JUDGE).exists() else None
        data = ImageDataset.open(folder / DATA)
        workplace = Workplace(create_registry(without=broken), data, torch.device(device), judge)
        workplace.warm_up(warms_up)
        pipe.send(_Idle())
        while (unit := pipe.recv()) is not None:
            workplace.work(unit, pipe.send)
            pipe.send(_Idle())
    pipe.close()


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
