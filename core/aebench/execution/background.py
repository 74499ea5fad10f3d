"""Runs a generator in a thread of its own, so that it never waits for the consumer of its items."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

T = TypeVar("T")


class _Ended:
    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def in_background(produce: Callable[[Callable[[], bool]], Iterator[T]]) -> Generator[T, None, None]:
    """The items of `produce(should_stop)`, which runs in a thread; its exceptions are raised here.

    When this generator is closed, `should_stop()` becomes true, and closing waits until the thread has ended.
    """
    items: queue.SimpleQueue[T | _Ended] = queue.SimpleQueue()
    stop = threading.Event()

    def run() -> None:
        try:
            for item in produce(stop.is_set):
                items.put(item)
        except BaseException as error:
            items.put(_Ended(error))
        else:
            items.put(_Ended(None))

    thread = threading.Thread(target=run, name="aebench-scheduler", daemon=True)
    thread.start()
    try:
        while not isinstance(item := items.get(), _Ended):
            yield item
        if item.error is not None:
            raise item.error
    finally:
        stop.set()
        thread.join()
