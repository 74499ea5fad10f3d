"""Reads settings from environment variables."""

from __future__ import annotations

import os
import threading

from aebench.errors import AebenchError


def seconds_from_environment(variable: str, default: float, *, may_be_zero: bool = True) -> float:
    """The seconds that an environment variable holds, or the default if it is empty or not set.

    Raises:
        AebenchError: it is not a number, negative or too large to wait for, or 0 where it must not be.
    """
    text = os.environ.get(variable, "")
    try:
        seconds = float(text or default)
    except ValueError:
        seconds = -1.0
    if 0 < seconds <= threading.TIMEOUT_MAX or (seconds == 0 and may_be_zero):
        return seconds
    limit = ", at least 0" if may_be_zero else " greater than 0"
    raise AebenchError(f"{variable} must be a number of seconds{limit}, got {text!r}")
