"""Delivers a journal to its store."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from aebench.errors import AebenchError, one_line
from aebench.tracking.journal import Journal
from aebench.tracking.retries import LONGEST_PAUSE, Note, Retries, Unavailable, retries_of_store
from aebench.tracking.store_errors import is_refused, is_temporary
from aebench.tracking.updates import RunUpdate


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
        self._store = retries_of_store(uri, note)
        self._disk = Retries(
            "results cannot be kept in the work folder",
            "results can be kept in the work folder again",
            lambda error: isinstance(error, OSError),
            note,
        )
        self._next_attempt = 0.0

    def append(self, updates: Iterable[RunUpdate]) -> None:
        """Write updates to the journal; wait if its disk is full.

        Raises:
            Unavailable: it could not be written until the time limit.
        """
        updates = list(updates)
        self._disk.until_it_succeeds(lambda: self._journal.append(updates))

    def attempt(self, force: bool = False) -> bool:
        """Deliver what can be delivered now; return whether nothing is left.

        After a failure, and unless `force`, nothing is tried for a while. An update whose run was deleted is left out
        with a message.

        Raises:
            AebenchError: the store raised an error that waiting does not mend; the journal keeps what is left.
        """
        if not force and time.monotonic() < self._next_attempt:
            return False
        try:
            while len(self._journal):
                self._store.once(self._deliver_first)
        except Exception as error:
            if not is_temporary(error):
                raise
            self._next_attempt = time.monotonic() + LONGEST_PAUSE
            return False
        return True

    def finish(self) -> None:
        """Deliver everything; wait for the store if it does not answer.

        Raises:
            Unavailable: it did not answer until the time limit; the journal keeps what is left.
            AebenchError: as for `attempt`.
        """
        try:
            while len(self._journal):
                self._store.until_it_succeeds(self._deliver_first)
        except Unavailable as error:
            raise Unavailable(f"{error}; {self._kept}") from error

    def _deliver_first(self) -> None:
        update = self._journal.first
        try:
            self._apply(update)
        except Exception as error:
            if is_temporary(error):
                raise
            if not is_refused(error):
                raise AebenchError(f"the tracking store refuses a result: {one_line(error)}; {self._kept}") from error
            self._note(f"run {update.run_id} was deleted, and its results are not stored: {one_line(error)}")
        self._journal.remove_first()

    @property
    def _kept(self) -> str:
        return (
            f"{len(self._journal)} results are kept in {self._journal.folder} "
            "and stored by the next 'aebench run' with this store"
        )
