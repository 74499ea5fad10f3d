"""What need not be done again: results that are in the store, and results that an earlier run could not deliver."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from aebench.errors import AebenchError
from aebench.execution.work_folder import RunFolder, WorkFolder

if TYPE_CHECKING:
    from aebench.tracking.journal import Journal
    from aebench.tracking.store import Store


def deliver_abandoned(work: WorkFolder, store: Store, note: Callable[[str], None]) -> None:
    """Deliver what earlier runs could not deliver to this store, and remove what they left.

    The folder of a run with results for another store is kept until that store is used again.

    Raises:
        Unavailable: the store does not answer; nothing is lost.
    """
    for folder in work.abandoned_runs():
        folder.remove_temporary_files()
        try:
            journal = open_journal(folder)
        except AebenchError as error:
            note(f"{error}; its results cannot be stored, and it is kept")
            folder.release()
            continue
        if len(journal) and journal.store != store.identity:
            note(f"{len(journal)} results of an earlier run for {journal.store} are kept in {folder.path}")
            folder.release()
            continue
        try:
            if len(journal):
                note(f"an earlier run was interrupted; storing {len(journal)} of its results first")
                store.delivery(journal).finish()
        except BaseException:
            folder.release()
            raise
        folder.remove()


def open_journal(folder: RunFolder, store: str = "") -> Journal:
    """The journal of a run; `store` identifies the store of a new one."""
    from aebench.tracking.journal import Journal

    return Journal(folder.path / "journal", folder.artifacts, store)
