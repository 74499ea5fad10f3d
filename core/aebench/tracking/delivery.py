"""Delivers a journal to its store, and waits while the store does not answer."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from typing import Any, TypeVar, cast

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException, RestException
from requests import RequestException
from sqlalchemy.exc import OperationalError

from aebench.errors import AebenchError, one_line
from aebench.tracking.journal import Journal
from aebench.tracking.updates import RunUpdate

T = TypeVar("T")
Note = Callable[[str], None]

SECONDS_VARIABLE = "AEBENCH_STORE_SECONDS"
DEFAULT_SECONDS = 300.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 10.0  # seconds between two attempts


class StoreUnavailable(AebenchError):
    """The store did not answer for the whole time limit."""


def is_refused(error: Exception) -> bool:
    """Whether a store will never take this update: its run is gone, or was deleted."""
    if not isinstance(error, MlflowException):
        return False
    return error.error_code == "RESOURCE_DOES_NOT_EXIST" or "must be in the 'active' state" in str(error)


def is_temporary(error: Exception) -> bool:
    """Whether a store that raised this may work again later: it is locked, full, read-only or away."""
    if isinstance(error, RestException):  # the server's answer
        return error.error_code in ("INTERNAL_ERROR", "TEMPORARILY_UNAVAILABLE", "REQUEST_LIMIT_EXCEEDED")
    if isinstance(error, MlflowException):
        cause = error.__cause__ or error.__context__
        return isinstance(cause, Exception) and is_temporary(cause)
    return isinstance(error, OSError | OperationalError | RequestException)


def patience() -> float:
    """Seconds to wait for a store that does not answer, from the environment variable AEBENCH_STORE_SECONDS (300).

    Raises:
        AebenchError: the variable is not a number of seconds.
    """
    text = os.environ.get(SECONDS_VARIABLE, "")
    try:
        seconds = float(text or DEFAULT_SECONDS)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise AebenchError(f"{SECONDS_VARIABLE} must be a number of seconds, at least 0, got {text!r}")
    return seconds


class Outage:
    """The time since a store stopped answering: says so once, and how long to wait before the next attempt.

    Args:
        uri: of the store.
        note: prints a line.
    """

    def __init__(self, uri: str, note: Note) -> None:
        self._uri = uri
        self._note = note
        self._began: float | None = None
        self._pause = FIRST_PAUSE
        self.error = ""

    def restart(self) -> None:
        """Count the time from now on."""
        if self._began is not None:
            self._began = time.monotonic()

    def failed(self, error: Exception) -> None:
        """Another attempt has failed."""
        self.error = one_line(error)
        if self._began is None:
            self._began = time.monotonic()
            self._note(f"the tracking store {self._uri} does not answer, trying again: {self.error}")

    def ended(self) -> None:
        """An attempt has succeeded."""
        if self._began is not None:
            self._note(f"the tracking store answers again after {time.monotonic() - self._began:.0f} s")
        self._began, self._pause = None, FIRST_PAUSE

    def wait(self, limit: float) -> bool:
        """Wait before the next attempt; False without waiting if the store has not answered for `limit` seconds."""
        if self._began is not None and time.monotonic() - self._began >= limit:
            return False
        time.sleep(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        return True


class Delivery:
    """Keeps updates in a journal, and delivers them in their order; one thread may append while another delivers.

    Args:
        journal: what is to be delivered.
        apply: writes one update to the store.
        uri: of the store, for messages.
        note: prints a line.

    Attributes:
        artifacts: what updates refer to.
    """

    def __init__(self, journal: Journal, apply: Callable[[RunUpdate], None], uri: str, note: Note) -> None:
        self.artifacts = journal.artifacts
        self._journal = journal
        self._apply = apply
        self._note = note
        self._outage = Outage(uri, note)
        self._next_attempt = 0.0

    def append(self, updates: Iterable[RunUpdate]) -> None:
        """Write updates to the journal; wait if its disk is full.

        Raises:
            AebenchError: it could not be written for the time limit, see `patience`.
        """
        updates, began = list(updates), time.monotonic()
        while True:
            try:
                return self._journal.append(updates)
            except OSError as error:
                waited = time.monotonic() - began
                if waited >= patience():
                    raise AebenchError(f"results cannot be kept in the work folder: {one_line(error)}") from error
                if waited < FIRST_PAUSE:
                    self._note(f"results cannot be kept in the work folder, trying again: {one_line(error)}")
                time.sleep(FIRST_PAUSE)

    def attempt(self, force: bool = False) -> bool:
        """Deliver what can be delivered now; return whether nothing is left.

        After a failure, and unless `force`, nothing is tried for a while. An update whose run was deleted is left out
        with a message.

        Raises:
            AebenchError: the store raised an error that waiting does not mend; the journal keeps what is left.
        """
        if not force and time.monotonic() < self._next_attempt:
            return False
        while len(self._journal):
            update = self._journal.first
            try:
                self._apply(update)
            except Exception as error:
                if is_refused(error):
                    self._note(f"run {update.run_id} was deleted, and its results are not stored: {one_line(error)}")
                elif is_temporary(error):
                    self._outage.failed(error)
                    self._next_attempt = time.monotonic() + LONGEST_PAUSE
                    return False
                else:
                    raise AebenchError(
                        f"the tracking store refuses a result: {one_line(error)}; {self._kept}"
                    ) from error
            else:
                self._outage.ended()
            self._journal.remove_first()
        return True

    def finish(self) -> None:
        """Deliver everything; wait for the store if it does not answer.

        Raises:
            StoreUnavailable: it has not answered for the time limit, see `patience`.
        """
        limit = patience()
        self._outage.restart()
        while not self.attempt(force=True):
            if not self._outage.wait(limit):
                raise StoreUnavailable(f"the tracking store does not answer: {self._outage.error}; {self._kept}")

    @property
    def _kept(self) -> str:
        return (
            f"{len(self._journal)} results are kept in {self._journal.folder} "
            "and stored by the next 'aebench run' with this store"
        )


def patient(client: MlflowClient, uri: str, note: Note) -> MlflowClient:
    """A client whose calls are repeated while the store does not answer, for at most `patience()` seconds.

    Its calls raise an AebenchError when that time is over.
    """
    return cast(MlflowClient, _Patient(client, Outage(uri, note)))


class _Patient:
    def __init__(self, client: MlflowClient, outage: Outage) -> None:
        self._client = client
        self._outage = outage

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        def call(*arguments: Any, **options: Any) -> Any:
            limit = patience()
            while True:
                try:
                    result = method(*arguments, **options)
                except Exception as error:
                    if not is_temporary(error):
                        raise
                    self._outage.failed(error)
                    if not self._outage.wait(limit):
                        raise StoreUnavailable(f"the tracking store does not answer: {self._outage.error}") from error
                else:
                    self._outage.ended()
                    return result

        return call
