"""Turns SIGINT and SIGTERM into exceptions, and remembers them: code that is interrupted may swallow an exception."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from typing import Any, NoReturn

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
        """Handle the signals; SIGINT only if it is not ignored, as it is in the background of a shell."""
        signal.signal(signal.SIGTERM, self._raise)
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._raise)
        sys.unraisablehook = self._handle_unraisable

    def ignore(self) -> None:
        """Ignore the signals from now on: the program is about to end."""
        for signum in (signal.SIGTERM, signal.SIGINT):
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
