"""Runs other people's code so that nothing it does, not even hanging, reaches beyond its own plugin."""

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
SECONDS = 30.0


class StageError(Exception):
    """A plugin has failed at a stage of its loading; the exception behind it is the `__cause__`."""

    def __init__(self, stage: str, message: str) -> None:
        super().__init__(message)
        self.stage = stage


class _GivenUp(BaseException):
    """Raised inside a plugin that has taken too long."""


def guarded(stage: str, work: Callable[[], T]) -> T:
    """The result of `work`, which has as many seconds as the environment variable AEBENCH_PLUGIN_SECONDS says (30).

    It runs in a thread of its own, so that it can be left behind. What it prints goes to stderr: stdout belongs to
    --json. Only a KeyboardInterrupt passes through.

    Raises:
        StageError: it raised, called `sys.exit`, or was not done in time.
    """
    seconds = _seconds()
    results: list[T] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=target, name=f"aebench plugin: {stage}", daemon=True)
    with contextlib.redirect_stdout(sys.stderr):
        thread.start()
        thread.join(seconds)
    if results:
        return results[0]
    if not errors:
        _give_up(thread)
        raise StageError(stage, f"was not done after {seconds:g} seconds ({SECONDS_VARIABLE} sets the limit)")
    error = errors[0]
    if isinstance(error, AebenchError):
        raise StageError(stage, str(error)) from error
    if isinstance(error, (Exception, SystemExit)):
        raise StageError(stage, f"{type(error).__name__}: {error}") from error
    raise error


def _seconds() -> float:
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text or SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise AebenchError(f"{SECONDS_VARIABLE} must be a number of seconds greater than 0, got {text!r}")
    return seconds


def _give_up(thread: threading.Thread) -> None:
    """Stop a thread that is busy in Python; one that waits in a system call stays, and does no harm."""
    identity = ctypes.c_ulong(thread.ident or 0)
    exception: Any = ctypes.py_object(_GivenUp)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(identity, exception)
