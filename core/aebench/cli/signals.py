"""Turns SIGINT, SIGTERM and SIGHUP into exceptions, and remembers them: exceptions can be swallowed."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import Any, NoReturn

# SIGHUP says that the terminal was closed.
STOP_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
EXIT_CODE_OF_SIGNAL_0 = 128  # a shell's convention; the number of the signal is added


class StopSignals:
    """The signals that end the program.

    An exception that is raised in the middle of an import may come out as another one, and one that is raised in a
    callback of the garbage collector is printed and forgotten. So the signal counts, not the exception.

    Attributes:
        received: the last signal; None if there was none.
    """

    def __init__(self) -> None:
        self.received: signal.Signals | None = None

    def install(self) -> None:
        """Handle the signals that are not ignored, as SIGINT is in the background of a shell, and SIGHUP by nohup."""
        for signum in STOP_SIGNALS:
            if signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._raise)
        sys.unraisablehook = self._handle_unraisable

    def ignore(self) -> None:
        """Ignore the signals from now on: the program is about to end."""
        for signum in STOP_SIGNALS:
            signal.signal(signum, signal.SIG_IGN)

    @property
    def exit_code(self) -> int:
        """The exit code of a program that the received signal ends."""
        return EXIT_CODE_OF_SIGNAL_0 + (self.received or 0)

    def _raise(self, signum: int, frame: Any) -> NoReturn:
        self.received = signal.Signals(signum)
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        sys.exit(self.exit_code)

    def _handle_unraisable(self, unraisable: Any) -> None:
        """Send the signal again if its exception was raised where none can be."""
        if self.received and issubclass(unraisable.exc_type, (KeyboardInterrupt, SystemExit)):
            again = threading.Timer(0.05, _thread.interrupt_main, (self.received,))  # after this hook has returned
            again.daemon = True
            again.start()
        else:
            sys.__unraisablehook__(unraisable)
