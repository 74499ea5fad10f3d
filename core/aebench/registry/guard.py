"""Runs a plugin's code so that an exception, an exit or a hang costs that plugin and nothing else."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

from aebench.errors import AebenchError

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


def guarded(stage: str, call: Callable[[], T]) -> T:
    """Return `call()`, stopped after the time limit in seconds of the environment variable AEBENCH_PLUGIN_SECONDS (30).

    The call runs in a daemon thread, which is abandoned on a timeout. What it prints goes to stderr, because stdout
    carries the output of --json. A KeyboardInterrupt passes through.

    Raises:
        StageError: the call raised an exception, called `sys.exit` or timed out.
        AebenchError: the environment variable is not a positive number.
    """
    limit = _time_limit()
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name=f"aebench plugin: {stage}", daemon=True)
    with contextlib.redirect_stdout(sys.stderr):
        thread.start()
        thread.join(limit)
    if results:
        return results[0]
    if not errors:
        _interrupt(thread)
        raise StageError(stage, f"timed out after {limit:g} s ({SECONDS_VARIABLE} sets the limit)")
    error = errors[0]
    if isinstance(error, AebenchError):
        raise StageError(stage, str(error)) from error
    if isinstance(error, (Exception, SystemExit)):
        raise StageError(stage, f"{type(error).__name__}: {error}") from error
    raise error


def _time_limit() -> float:
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text or DEFAULT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise AebenchError(f"{SECONDS_VARIABLE} must be a number of seconds greater than 0, got {text!r}")
    return seconds


def _interrupt(thread: threading.Thread) -> None:
    """Raise an exception in a thread that executes Python code; a thread in a blocking system call keeps waiting."""
    identity = ctypes.c_ulong(thread.ident or 0)
    exception: Any = ctypes.py_object(_TimedOut)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, exception)
