"""Repeats what fails for a while: calls to a store that does not answer, writes to a disk that is full."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar, cast

from mlflow import MlflowClient

from aebench.environment import seconds_from_environment
from aebench.errors import AebenchError, one_line
from aebench.tracking.store_errors import is_temporary

T = TypeVar("T")
Note = Callable[[str], None]

SECONDS_VARIABLE = "AEBENCH_STORE_SECONDS"
DEFAULT_SECONDS = 300.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two attempts


class Unavailable(AebenchError):
    """Every attempt failed until the time limit."""


class Retries:
    """Repeats calls that fail for a while, and says when that begins and ends.

    Args:
        failing: what a failure means, such as "the store does not answer".
        working: what it means that a call succeeds again.
        is_temporary: whether a call that raised this exception may succeed later.
        note: prints a line.
    """

    def __init__(self, failing: str, working: str, is_temporary: Callable[[Exception], bool], note: Note) -> None:
        self._failing = failing
        self._working = working
        self._is_temporary = is_temporary
        self._note = note
        self._failing_since: float | None = None

    def once(self, call: Callable[[], T]) -> T:
        """Return `call()`.

        Raises:
            Exception: whatever the call raises.
        """
        try:
            result = call()
        except Exception as error:
            if self._failing_since is None and self._is_temporary(error):
                self._failing_since = time.monotonic()
                self._note(f"{self._failing}, trying again: {one_line(error)}")
            raise
        if self._failing_since is not None:
            self._note(f"{self._working} after {time.monotonic() - self._failing_since:.0f} s")
            self._failing_since = None
        return result

    def until_it_succeeds(self, call: Callable[[], T]) -> T:
        """Return `call()`, repeated while it raises a temporary error.

        Raises:
            Unavailable: since its first failure it did so for the seconds of the environment variable
                AEBENCH_STORE_SECONDS (300).
            AebenchError: the environment variable is not a number of seconds.
            Exception: whatever else the call raises.
        """
        limit = seconds_from_environment(SECONDS_VARIABLE, DEFAULT_SECONDS)
        failing_since, pause = inf, FIRST_PAUSE
        while True:
            try:
                return self.once(call)
            except Exception as error:
                if not self._is_temporary(error):
                    raise
                failing_since = min(failing_since, time.monotonic())
                if time.monotonic() - failing_since >= limit:
                    raise Unavailable(f"{self._failing}: {one_line(error)}") from error
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)


def retries_of_store(uri: str, note: Note) -> Retries:
    """Repeats calls to the tracking store at `uri`."""
    return Retries(f"the tracking store {uri} does not answer", "the tracking store answers again", is_temporary, note)


def retrying_client(client: MlflowClient, retries: Retries) -> MlflowClient:
    """A client whose calls are repeated until they succeed, and raise what `Retries.until_it_succeeds` raises."""
    return cast(MlflowClient, _RetryingClient(client, retries))


class _RetryingClient:
    def __init__(self, client: MlflowClient, retries: Retries) -> None:
        self._client = client
        self._retries = retries

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)
        return lambda *args, **options: self._retries.until_it_succeeds(lambda: method(*args, **options))
