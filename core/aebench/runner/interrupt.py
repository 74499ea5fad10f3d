"""What Ctrl-C means while jobs run: once for an orderly end, twice for an end at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """While it is entered, the first SIGINT is only noted, and the second one raises KeyboardInterrupt.

    Outside the main thread, which alone receives signals, it does nothing.

    Attributes:
        requested: whether SIGINT has been received.
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._is_main = threading.current_thread() is threading.main_thread()
        if self._is_main:
            self._before = signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if self._is_main:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
