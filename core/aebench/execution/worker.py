"""The life of a worker process: ask for units, work on them in turns, report; until there are none."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path

import torch

from aebench.contracts import ImageDataset
from aebench.evaluation.reference_classifier import load_reference_classifier
from aebench.execution.work import CellDone, NotTrained, Report, Unit, Workplace
from aebench.registry.loading import create_registry
from aebench.registry.records import Origin
from aebench.training.turns import Turns

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
DEVICE_IS_BROKEN = 70  # exit code


@dataclass(frozen=True)
class Orders:
    """What a worker has to know before it starts.

    Attributes:
        data, reference_classifier: files that all workers read; no reference classifier where nobody asks it.
        device: where to work.
        without: plugins that have failed in the driver.
        warms_up: the tasks to prepare for, by name.
        side_by_side: units to have in hand at once.
    """

    data: Path
    reference_classifier: Path | None
    device: str
    without: Collection[Origin]
    warms_up: tuple[str, ...] = ()
    side_by_side: int = 1


class Idle:
    """Sent by a worker that could do with another unit; the answer is one, or None when no more will come."""


def start(orders: Orders) -> tuple[SpawnProcess, Connection]:
    """A new worker, and the pipe to it."""
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, orders), name="aebench-worker")
    with _single_threaded():
        process.start()
    theirs.close()
    return process, ours


def _serve(pipe: Connection, orders: Orders) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    torch.set_num_threads(1)
    device = torch.device(orders.device)
    with contextlib.suppress(EOFError, BrokenPipeError):  # nobody listens any more
        reference_classifier = (
            None
            if orders.reference_classifier is None
            else load_reference_classifier(orders.reference_classifier).to(device)
        )
        workplace = Workplace(
            create_registry(without=orders.without), ImageDataset.open(orders.data), device, reference_classifier
        )
        workplace.warm_up(orders.warms_up)
        _take_turns(pipe, workplace, orders.side_by_side, device)
    pipe.close()


def _take_turns(pipe: Connection, workplace: Workplace, side_by_side: int, device: torch.device) -> None:
    def emit(message: Report) -> None:
        pipe.send(message)
        if isinstance(message, NotTrained) or (isinstance(message, CellDone) and message.status == "failed"):
            _leave_a_broken(device)

    in_hand: list[Turns[None]] = []
    has_asked, more_will_come = False, True
    while in_hand or more_will_come:
        if more_will_come and not has_asked and len(in_hand) < side_by_side:
            pipe.send(Idle())
            has_asked = True
        if has_asked and (not in_hand or pipe.poll()):
            unit: Unit | None = pipe.recv()
            has_asked = False
            if unit is None:
                more_will_come = False
            else:
                in_hand.append(workplace.work(unit, emit))
            continue
        for turns in list(in_hand):
            try:
                next(turns)
            except StopIteration:
                in_hand.remove(turns)


def _leave_a_broken(device: torch.device) -> None:
    """An illegal access by one kernel is an error of everything that comes after it: nothing more can be done here."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except Exception:
            os._exit(DEVICE_IS_BROKEN)


@contextlib.contextmanager
def _single_threaded() -> Iterator[None]:
    """The environment in which a started process uses one thread in every numerical library.

    Results then do not depend on how many processes share the cores.
    """
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
