"""Checkpoints that outlive a run: the newest one of each training, in a folder that only the driver uses."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from aebench.errors import AebenchError, DamagedFile
from aebench.execution.artifacts import ArtifactStore
from aebench.execution.events import Checkpointed, CheckpointFailed, Draining, Event
from aebench.execution.jobs import Job
from aebench.files import read_sealed, write_sealed
from aebench.planning.specs import TrainingSpec

DAYS = 30  # that a checkpoint is kept
SUFFIX = ".checkpoint"


class Checkpoints:
    """Keeps the newest checkpoint of each training, by the hash of its spec; several processes may use one folder.

    Args:
        folder: where the files are; made, for this user alone, when the first checkpoint is saved.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def save(self, training_hash: str, content: bytes) -> None:
        """Replace the checkpoint of a training.

        Raises:
            OSError: it cannot be written; the former one is still there.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with FileLock(self._folder / ".lock"):
            write_sealed(self._file(training_hash), content)

    def load(self, training_hash: str, on_failure: Callable[[str], None]) -> bytes | None:
        """The checkpoint of a training; None if there is none that can be read.

        Args:
            training_hash: of the spec of the training.
            on_failure: called with the reason, on one line, why a checkpoint that is there cannot be used; a damaged
                one is removed.
        """
        try:
            return read_sealed(self._file(training_hash))
        except FileNotFoundError:
            return None
        except DamagedFile as error:
            self.discard(training_hash)
            on_failure(f"{error}; the training starts anew")
        except OSError as error:
            on_failure(f"{self._file(training_hash)} cannot be read: {error.strerror}; the training starts anew")
        return None

    def discard(self, training_hash: str) -> None:
        """Remove the checkpoint of a training, if there is one, and what an interrupted `save` left."""
        file = self._file(training_hash)
        for path in (file, file.with_name(f"{file.name}.part")):
            with suppress(OSError):
                path.unlink()

    def discard_old(self) -> None:
        """Remove the checkpoints of all trainings that nobody has continued for `DAYS` days."""
        oldest = time.time() - DAYS * 24 * 3600
        for path in self._folder.glob(f"*{SUFFIX}*"):
            with suppress(OSError):
                if path.stat().st_mtime < oldest:
                    path.unlink()

    def _file(self, training_hash: str) -> Path:
        return self._folder / f"{training_hash}{SUFFIX}"


def save_checkpoints(
    events: Iterable[Event | Draining], jobs: Iterable[Job], artifacts: ArtifactStore, checkpoints: Checkpoints
) -> Iterator[Event | Draining]:
    """The same events; the checkpoint that one of them reports is saved before the next event is awaited.

    The scheduler may discard a checkpoint when it has a newer one, so its events must not wait in a queue before this.
    A checkpoint that cannot be saved costs nothing but itself.
    """
    hashes: Mapping[str, str] = {job.id: job.spec.hash for job in jobs if isinstance(job.spec, TrainingSpec)}
    for event in events:
        yield event
        if isinstance(event, Checkpointed):
            try:
                checkpoints.save(hashes[event.job_id], artifacts.path(event.ref).read_bytes())
            except (OSError, AebenchError) as error:
                yield CheckpointFailed(event.job_id, f"the checkpoint cannot be saved: {error}")
