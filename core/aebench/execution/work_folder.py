"""The folder in which a run keeps what must survive its death; the next run delivers or removes what it finds there.

lock             held for moments, while runs begin, end and claim cells
runs/<id>/       one for each run: `lock` (held while the run lives), its artifacts, its journal, its claims
checkpoints/     of trainings that were interrupted
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aebench.errors import AebenchError, one_line
from aebench.execution.artifacts import FolderStore
from aebench.execution.liveness import is_alive, this_process
from aebench.files import write_atomically
from aebench.planning.specs import EvaluationSpec

PRIVATE = 0o700
LONGEST_FOR_SOCKETS = 60  # characters; a socket's path may have about 100


class RunFolder:
    """The folder of one run, whose lock this process holds.

    Args:
        path: an existing folder.
        lock: its lock.
        guard: the lock of the whole work folder.

    Attributes:
        keep: whether the next run shall find the folder.
    """

    def __init__(self, path: Path, lock: FileLock, guard: FileLock) -> None:
        self.path = path
        self.claims = path / "claims"
        self.keep = False
        self._lock = lock
        self._guard = guard
        self._temporary = path / "temporary"

    @property
    def artifacts(self) -> FolderStore:
        """The artifacts of the run's jobs."""
        folder = self.path / "artifacts"
        folder.mkdir(exist_ok=True)
        return FolderStore(folder)

    @contextlib.contextmanager
    def temporary_files(self) -> Iterator[None]:
        """Inside, this process and those that it starts make their temporary files in a folder of this run.

        The folder lies in the system's temporary directory.
        """
        of_processes = _folder_of_processes()
        name = str(Path(tempfile.gettempdir(), f"aebench-{uuid.uuid4().hex[:12]}"))
        record = {"process": this_process(), "folder": name, "of_processes": of_processes}
        write_atomically(self._temporary, json.dumps(record).encode())
        os.mkdir(name, PRIVATE)
        before, variable = tempfile.tempdir, os.environ.get("TMPDIR")
        tempfile.tempdir = os.environ["TMPDIR"] = name
        try:
            yield
        finally:
            tempfile.tempdir = before
            if variable is None:
                del os.environ["TMPDIR"]
            else:
                os.environ["TMPDIR"] = variable
            shutil.rmtree(name, ignore_errors=True)
            self._temporary.unlink(missing_ok=True)

    def remove_temporary_files(self) -> None:
        """Remove the temporary files that a run left when it was killed."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            record = json.loads(self._temporary.read_bytes())
            shutil.rmtree(record["folder"], ignore_errors=True)
            if not is_alive(record["process"]):
                shutil.rmtree(record["of_processes"], ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder with all that is in it, and release its lock."""
        with self._guard:
            shutil.rmtree(self.path, ignore_errors=True)
            self._lock.release()

    def release(self) -> None:
        """Keep the folder, and let the next run have it."""
        self._lock.release()


class WorkFolder:
    """The folder in which all runs of one user keep what must survive them.

    Args:
        root: created if it does not exist; what is made in it is for this user alone.

    Raises:
        AebenchError: it cannot be created or written.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.checkpoints = root / "checkpoints"
        self._runs = root / "runs"
        try:
            root.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
            self._runs.mkdir(mode=PRIVATE, exist_ok=True)
            self._lock = FileLock(root / "lock")
            with self._lock:
                pass
        except OSError as error:
            raise AebenchError(
                f"the work folder {root} cannot be used: {one_line(error)}; "
                "choose another with --work-dir or AEBENCH_WORK_DIR"
            ) from error

    @contextlib.contextmanager
    def new_run(self) -> Iterator[RunFolder]:
        """A folder for a run of this process, removed afterwards unless it is to be kept."""
        path = self._runs / uuid.uuid4().hex[:12]
        with self._lock:
            path.mkdir(PRIVATE)
            lock = FileLock(path / "lock")
            lock.acquire()
        folder = RunFolder(path, lock, self._lock)
        try:
            with folder.temporary_files():
                yield folder
        finally:
            if folder.keep:
                folder.release()
            else:
                folder.remove()

    def abandoned_runs(self) -> list[RunFolder]:
        """The folders of runs that died or could not deliver their results; this process then holds their locks."""
        with self._lock:
            locks = {path: _acquired(path) for path in self._paths()}
            return [RunFolder(path, lock, self._lock) for path, lock in locks.items() if lock is not None]

    def claim(self, run: RunFolder, store: str, cells: Sequence[EvaluationSpec]) -> list[EvaluationSpec]:
        """Claim cells for a run, instead of what it has claimed before.

        Args:
            run: the run that wants to evaluate them.
            store: identifies where their results go; runs for another store or experiment do not matter.
            cells: the cells that are wanted.

        Returns:
            The cells that the run may evaluate: neither they nor their trainings are claimed by another live run.
        """
        with self._lock:
            taken = self._taken(run, store)
            free = [cell for cell in cells if not taken & {cell.hash, cell.training.hash}]
            hashes = sorted({cell.hash for cell in free} | {cell.training.hash for cell in free})
            write_atomically(run.claims, json.dumps({"store": store, "hashes": hashes}).encode())
            return free

    def _taken(self, run: RunFolder, store: str) -> set[str]:
        taken: set[str] = set()
        for path in self._paths():
            if path != run.path and _is_held(path):
                with contextlib.suppress(OSError, ValueError):
                    claims: dict[str, Any] = json.loads((path / run.claims.name).read_bytes())
                    if claims["store"] == store:
                        taken |= set(claims["hashes"])
        return taken

    def _paths(self) -> list[Path]:
        return sorted(path for path in self._runs.iterdir() if path.is_dir())


def _folder_of_processes() -> str:
    """Multiprocessing's folder of sockets; it stays until this process ends, so it is not inside a run's.

    Python before 3.14 does not look for a folder with a short path, and fails if that of a socket is too long.
    """
    before = tempfile.tempdir
    if len(tempfile.gettempdir()) > LONGEST_FOR_SOCKETS and os.path.isdir("/tmp"):
        tempfile.tempdir = "/tmp"
    try:
        return util.get_temp_dir()
    finally:
        tempfile.tempdir = before


def _acquired(path: Path) -> FileLock | None:
    """The lock of a run's folder, acquired; None if its process is alive."""
    lock = FileLock(path / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return None
    return lock


def _is_held(path: Path) -> bool:
    lock = _acquired(path)
    if lock is not None:
        lock.release()
    return lock is None
