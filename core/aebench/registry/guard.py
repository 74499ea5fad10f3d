"""Runs a plugin's code so that an exception, an exit or a hang costs that plugin and nothing else."""

from __future__ import annotations

import ctypes
import tempfile
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from aebench.environment import seconds_from_environment
from aebench.errors import AebenchError
from aebench.registry.printed_output import last_output, redirected_output
from aebench.registry.side_effects import ProcessState

T = TypeVar("T")

SECONDS_VARIABLE = "AEBENCH_PLUGIN_SECONDS"
DEFAULT_SECONDS = 30.0


class StageError(Exception):
    """A plugin failed at a stage of its loading; the exception that caused it is the `__cause__`."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class _TimedOut(BaseException):
    """Raised inside plugin code that exceeds its time limit; plugins that catch Exception do not catch it."""


class Guard:
    """Runs the stages of loading one plugin; a context manager.

    Inside, what the plugin prints goes to no terminal. What it changes for the whole process is undone.

    Attributes:
        side_effects: names of what the plugin has changed and the guard has restored.
        output: what the plugin has printed, from `__exit__` on.
    """

    def __init__(self) -> None:
        self.side_effects: tuple[str, ...] = ()
        self.output = ""

    def __enter__(self) -> Self:
        self._file = tempfile.TemporaryFile("ab+", buffering=0)
        self._redirection = redirected_output(self._file.fileno())
        self._redirection.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._redirection.__exit__(None, None, None)
        self.output = last_output(self._file.fileno()).decode(errors="replace")
        self._file.close()

    def __call__(self, stage: str, call: Callable[[], T]) -> T:
        """Return `call()`, stopped after the seconds in the environment variable AEBENCH_PLUGIN_SECONDS (30).

        The call runs in a daemon thread, which is abandoned on a timeout. A KeyboardInterrupt passes through.

        Raises:
            StageError: the call raised an exception, called `sys.exit` or timed out.
            AebenchError: the environment variable is not a positive number.
        """
        limit = seconds_from_environment(SECONDS_VARIABLE, DEFAULT_SECONDS, may_be_zero=False)
        results: list[T] = []
        errors: list[BaseException] = []
        changed: list[str] = []
        abandoned = threading.Event()

        def target() -> None:
            before = ProcessState()
            try:
                results.append(call())
            except BaseException as error:
                errors.append(error)
            if not abandoned.is_set():
                changed.extend(before.restore())

        before = ProcessState()
        thread = threading.Thread(target=target, name=f"aebench plugin: {stage}", daemon=True)
        thread.start()
        thread.join(limit)
        if thread.is_alive():
            abandoned.set()
            _interrupt(thread)
        changed.extend(before.restore())
        self.side_effects = tuple(dict.fromkeys((*self.side_effects, *changed)))
        if abandoned.is_set():  # whatever the call did afterwards
            raise StageError(stage, f"timed out after {limit:g} s ({SECONDS_VARIABLE} sets the limit)")
        if results:
            return results[0]
        error = errors[0]
        if isinstance(error, AebenchError):
            raise StageError(stage, str(error)) from error
        if isinstance(error, (Exception, SystemExit)):
            raise StageError(stage, f"{type(error).__name__}: {error}") from error
        raise error


def _interrupt(thread: threading.Thread) -> None:
    """Raise an exception in a thread that executes Python code; a thread in a blocking system call keeps waiting."""
    identity = ctypes.c_ulong(thread.ident or 0)
    exception: Any = ctypes.py_object(_TimedOut)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, exception)
