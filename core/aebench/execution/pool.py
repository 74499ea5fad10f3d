"""The driver's side of the workers: deals units, collects messages, and makes up for workers that end early.

What fails while others train in the same process may have failed because of them: the device's memory is shared, and
so is an illegal access. It is therefore tried again in a trainer of its own, and only what fails there has failed. An
evaluation has one try.
"""

from __future__ import annotations

import contextlib
import queue
import signal
import threading
from collections import deque
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from multiprocessing import connection
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess

from aebench.errors import AebenchError
from aebench.execution.crew import Crew
from aebench.execution.work import CellDone, Message, NotTrained, Postponed, Report, Trained, Unit, failed
from aebench.execution.worker import DEVICE_IS_BROKEN, Idle, Orders, start
from aebench.planning.specs import EvaluationSpec, TrainingSpec

GRACE_SECONDS = 5.0  # for a worker that has nothing left to do


@dataclass
class _Worker:
    """A process, the pipe to it, and the cells that it has not reported yet, by training."""

    process: SpawnProcess
    pipe: Connection
    orders: Orders
    is_evaluator: bool
    is_ready: bool = False  # has asked for work at least once
    is_idle: bool = False
    has_been_dismissed: bool = False
    has_failed: bool = False  # in a training, after which the process may not be sound
    in_hand: dict[TrainingSpec, _InHand] = field(default_factory=dict)

    def take(self, unit: Unit) -> None:
        self.in_hand[unit.training] = _InHand(unit, [*unit.cells, *unit.deferred])
        if self.orders.side_by_side > 1 and (len(self.in_hand) > 1 or self.has_failed):
            for job in self.in_hand.values():
                job.has_had_company = True


@dataclass
class _InHand:
    unit: Unit
    left: list[EvaluationSpec]
    has_had_company: bool = False


class Pool:
    """Workers, and the thread that deals units to them and collects their messages.

    Args:
        units: what is to be done.
        crew: by how many.
        slow: tasks that are slow to start, by name.
        orders: for every worker, but for what depends on its place in the crew.
    """

    def __init__(self, units: Sequence[Unit], crew: Crew, slow: Collection[str], orders: Orders) -> None:
        self._orders = orders
        self._queue: queue.SimpleQueue[Message | BaseException | None] = queue.SimpleQueue()
        asked = {cell.task for unit in units for cell in unit.cells}
        handed_over = asked.intersection(slow) if crew.trainers_evaluate else asked
        # Long units first, so that no worker is left alone with one at the end.
        split = [_split(unit, handed_over) for unit in sorted(units, key=lambda unit: -len(unit.cells))]
        self._for_trainers = deque(unit for unit, _ in split if unit is not None)
        self._postponed: deque[Unit] = deque()  # failed in company
        self._slow = frozenset(asked.intersection(slow))
        self._quick_cells: deque[Unit] = deque()
        self._slow_cells: deque[Unit] = deque()
        for _, evaluations in split:
            self._to_evaluate(evaluations)
        self._stopping = False
        self._no_evaluator = ""  # why there is none any more
        self._side_by_side = crew.side_by_side
        self._has_had_trainer = False
        self._workers = [self._start_trainer() for _ in range(min(crew.trainers, len(self._for_trainers)))]
        expected = [cell for unit in self._for_trainers for cell in unit.deferred]
        expected += [cell for unit in (*self._quick_cells, *self._slow_cells) for cell in unit.cells]
        self._workers += [self._start_evaluator(slow) for slow in self._preparations(crew, expected)]
        self._thread = threading.Thread(target=self._pump, name="aebench-workers", daemon=True)
        self._thread.start()

    def messages(self) -> Iterator[Message]:
        while (item := self._queue.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item

    def stop(self) -> None:
        self._stopping = True
        for waiting in self._waiting():
            waiting.clear()
        for worker in list(self._workers):
            worker.process.terminate()
        self._thread.join(timeout=10)
        for worker in list(self._workers):
            worker.process.kill()

    def _waiting(self) -> tuple[deque[Unit], ...]:
        return self._for_trainers, self._postponed, self._quick_cells, self._slow_cells

    def _to_evaluate(self, units: Iterable[Unit]) -> None:
        for unit in units:
            (self._slow_cells if unit.cells[0].task in self._slow else self._quick_cells).append(unit)

    def _preparations(self, crew: Crew, cells: Sequence[EvaluationSpec]) -> list[frozenset[str]]:
        """For each evaluator the slow tasks it prepares for: half of them for all, the others for none."""
        count = min(crew.evaluators, len(cells))
        slow = sum(cell.task in self._slow for cell in cells)
        prepared = min(slow, count if slow == len(cells) else (count + 1) // 2)
        return [self._slow] * prepared + [frozenset()] * (count - prepared)

    def _start_trainer(self, alone: bool = False) -> _Worker:
        return self._start(replace(self._orders, side_by_side=1 if alone else self._side_by_side), is_evaluator=False)

    def _start_evaluator(self, slow: Collection[str]) -> _Worker:
        return self._start(replace(self._orders, warms_up=tuple(sorted(slow))), is_evaluator=True)

    def _start(self, orders: Orders, is_evaluator: bool) -> _Worker:
        process, pipe = start(orders)
        return _Worker(process, pipe, orders, is_evaluator)

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
            if any(self._waiting()):
                raise AebenchError("the worker processes ended before all work was done")
        except BaseException as error:
            self._queue.put(error)
        else:
            self._queue.put(None)

    def _receive(self, worker: _Worker, item: Report | Idle) -> None:
        match item:
            case Idle():
                worker.is_ready = worker.is_idle = True
                self._has_had_trainer |= not worker.is_evaluator
                return
            case NotTrained():
                worker.has_failed = True
                worker.in_hand[item.training].has_had_company &= not item.for_good
                self._give_up(worker, item.training, f"training: {item.reason}", item.traceback)
                return
            case Trained():
                unit = worker.in_hand[item.training].unit
                self._to_evaluate(_handed_over(item.training, unit.deferred, item.weights))
                self._still_to_report(worker, item.training, list(unit.cells))
            case CellDone():
                left = worker.in_hand[item.cell.training].left
                self._still_to_report(worker, item.cell.training, [cell for cell in left if cell != item.cell])
        self._queue.put(item)

    def _still_to_report(self, worker: _Worker, training: TrainingSpec, cells: list[EvaluationSpec]) -> None:
        """Take note of what a worker has still to report of a unit."""
        if cells:
            worker.in_hand[training].left = cells
        else:
            del worker.in_hand[training]

    def _give_up(self, worker: _Worker, training: TrainingSpec, reason: str, traceback: str = "") -> None:
        """What is left of a unit fails, unless it might have done better alone."""
        job = worker.in_hand.pop(training)
        if job.has_had_company:
            self._postponed.append(job.unit)
            self._queue.put(Postponed(training, reason))
        else:
            self._fail(job.left, reason, traceback)

    def _deal(self) -> None:
        """Give every idle worker something to do, or tell it that nothing will come."""
        if self._postponed and not self._stopping and not any(self._trainers()):
            self._workers.append(self._start_trainer(alone=True))
        if self._no_evaluator:
            self._fail_all((self._quick_cells, self._slow_cells), self._no_evaluator)
        for worker in [worker for worker in self._workers if worker.is_idle]:
            unit = self._next_for(worker)
            if unit is None and worker.is_evaluator and self._trainers_are_busy():
                continue  # a trained model may come yet
            worker.is_idle = False
            if unit is None:
                worker.has_been_dismissed = True
            else:
                worker.take(unit)
            with contextlib.suppress(OSError):  # it has just died, and will be buried
                worker.pipe.send(unit)

    def _next_for(self, worker: _Worker) -> Unit | None:
        if not worker.is_evaluator:
            if worker.has_failed and worker.orders.side_by_side < self._side_by_side:
                return None  # the next one gets a trainer of its own too
            waiting = (
                (self._postponed, self._for_trainers) if worker.orders.side_by_side == 1 else (self._for_trainers,)
            )
        else:
            waiting = (self._slow_cells, self._quick_cells) if worker.orders.warms_up else (self._quick_cells,)
        return next((units.popleft() for units in waiting if units), None)

    def _trainers(self) -> Iterator[_Worker]:
        return (worker for worker in self._workers if not worker.is_evaluator)

    def _trainers_are_busy(self) -> bool:
        return bool(self._for_trainers or self._postponed or any(worker.in_hand for worker in self._trainers()))

    def _bury(self, worker: _Worker) -> None:
        """A worker has ended: as told, or by a crash, which costs what it had in hand."""
        self._workers.remove(worker)
        worker.process.join(GRACE_SECONDS)
        worker.process.kill()  # a thread that a plugin left behind must not keep it alive
        worker.process.join()
        worker.pipe.close()
        if worker.has_been_dismissed and not worker.in_hand:
            return
        reason = f"the worker process died ({_exit_reason(worker.process.exitcode)})"
        if not worker.is_ready:  # another one like it would not fare better
            if not self._stopping:
                self._do_without(worker, reason)
            return
        for training in list(worker.in_hand):
            self._give_up(worker, training, reason)
        if self._stopping:
            return
        if worker.is_evaluator and (self._trainers_are_busy() or self._quick_cells or self._slow_cells):
            self._workers.append(self._start_evaluator(worker.orders.warms_up))
        elif not worker.is_evaluator and self._for_trainers:
            self._workers.append(self._start_trainer())

    def _do_without(self, worker: _Worker, reason: str) -> None:
        """A worker never became ready: what waits for it goes to others of its kind, or fails if there are none.

        Slow tasks may do without preparation, which is what has failed then.
        """
        others = [other for other in self._workers if other.is_evaluator and not other.has_been_dismissed]
        if not worker.is_evaluator:
            if any(self._trainers()):
                return
            if not self._has_had_trainer:
                raise AebenchError(f"{reason} before it could take up any work")
            self._fail_all((self._for_trainers, self._postponed), reason)
        elif worker.orders.warms_up and not any(other.orders.warms_up for other in others):
            self._slow = frozenset()
            self._quick_cells.extend(self._slow_cells)
            self._slow_cells.clear()
            if not others:
                self._workers.append(self._start_evaluator(self._slow))
        elif not others:
            self._no_evaluator = reason

    def _fail_all(self, waiting: Iterable[deque[Unit]], reason: str) -> None:
        for units in waiting:
            while units:
                unit = units.popleft()
                self._fail((*unit.cells, *unit.deferred), reason)

    def _fail(self, cells: Iterable[EvaluationSpec], reason: str, traceback: str = "") -> None:
        for cell in cells:
            self._queue.put(failed(cell, reason, traceback))


def _split(unit: Unit, handed_over: Collection[str]) -> tuple[Unit | None, list[Unit]]:
    """What a trainer does of a unit, and what evaluators can do at once because the model is already trained."""
    own = tuple(cell for cell in unit.cells if cell.task not in handed_over)
    others = tuple(cell for cell in unit.cells if cell.task in handed_over)
    if unit.weights is None:
        return replace(unit, cells=own, deferred=others), []
    return replace(unit, cells=own) if own else None, _handed_over(unit.training, others, unit.weights)


def _handed_over(training: TrainingSpec, cells: Iterable[EvaluationSpec], weights: bytes) -> list[Unit]:
    """A unit for each cell, so that several evaluators can share them."""
    return [Unit(training, (cell,), weights) for cell in cells]


def _exit_reason(code: int | None) -> str:
    if code == DEVICE_IS_BROKEN:
        return "the CUDA device could not be used any more"
    if code is not None and code < 0:
        name = signal.Signals(-code).name
        return f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"exit code {code}"
