"""The journal of a run: every update is written here, durably, before it is delivered to the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError
from aebench.execution.artifacts import ArtifactStore
from aebench.tracking.updates import RunUpdate

DIGEST_LENGTH = 16
LAYOUT = 1  # raise it when the form of updates changes


class Journal:
    """Updates in the order in which they were made; one thread may append while another one delivers.

    Each line of the file is a digest and a JSON value: first the store, then updates, and in between how many of them
    have been delivered. A line that was not written whole ends the journal.

    Args:
        file: an existing journal is continued.
        artifacts: what the updates refer to.
        store: identifies the store of a new journal.

    Raises:
        AebenchError: an existing journal was written by another version.
    """

    def __init__(self, file: Path, artifacts: ArtifactStore, store: str = "") -> None:
        self.artifacts = artifacts
        self.store = store
        self.folder = file.parent
        self._file = file
        self._lock = threading.Lock()
        self._pending: deque[RunUpdate] = deque()
        self._delivered = 0
        if file.exists():
            self._read()
        else:
            self._write([{"store": store, "layout": LAYOUT}], durable=True)

    def __len__(self) -> int:
        """The number of updates that are still to be delivered."""
        return len(self._pending)

    def append(self, updates: Iterable[RunUpdate]) -> None:
        """Write updates; when this returns, they survive the death of the process and of the machine.

        Raises:
            OSError: the file cannot be written; it then is as it was.
        """
        updates = list(updates)
        with self._lock:
            self._write([{"update": update.to_json()} for update in updates], durable=True)
            self._pending.extend(updates)

    @property
    def first(self) -> RunUpdate:
        """The first update that is still to be delivered."""
        return self._pending[0]

    def remove_first(self) -> None:
        """Note that the first update has been delivered; if the note is lost, it is delivered again."""
        with self._lock:
            self._pending.popleft()
            self._delivered += 1
            with contextlib.suppress(OSError):  # such as a full disk
                self._write([{"delivered": self._delivered}], durable=False)

    def _write(self, values: Iterable[dict[str, Any]], durable: bool) -> None:
        lines = b"".join(_line(value) for value in values)
        with self._file.open("ab", buffering=0) as file:  # a buffer would be written after a failure, too
            size = file.tell()
            try:
                while lines:
                    lines = lines[file.write(lines) :]
                if durable:
                    os.fsync(file.fileno())
            except BaseException:
                file.truncate(size)
                raise

    def _read(self) -> None:
        for value in _values(self._file.read_bytes()):
            if "store" in value:
                self.store = value["store"]
                if value.get("layout") != LAYOUT:
                    raise AebenchError(f"{self._file} was written by another version of aebench")
            elif "update" in value:
                self._pending.append(RunUpdate.from_json(value["update"]))
            else:
                self._delivered = value["delivered"]
        for _ in range(self._delivered):
            self._pending.popleft()


def _line(value: dict[str, Any]) -> bytes:
    content = json.dumps(value).encode()
    return _digest(content) + b" " + content + b"\n"


def _values(content: bytes) -> Iterator[dict[str, Any]]:
    for line in content.split(b"\n"):
        digest, _, value = line.partition(b" ")
        if digest != _digest(value):
            return
        yield json.loads(value)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest()[:DIGEST_LENGTH].encode()
