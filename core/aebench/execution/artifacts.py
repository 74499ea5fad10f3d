"""A store of artifacts: weights, data and pictures are passed by reference, which is their SHA-256."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from aebench.errors import AebenchError


class ArtifactDamaged(AebenchError):
    """An artifact is missing, or its content has changed."""


@dataclass(frozen=True)
class Ref:
    """A reference to an artifact: the SHA-256 of its content in hexadecimal digits."""

    digest: str

    @classmethod
    def of(cls, content: bytes) -> Ref:
        """The reference to this content."""
        return cls(hashlib.sha256(content).hexdigest())


class ArtifactStore(Protocol):
    """The store of the inputs and outputs of jobs, on any engine."""

    def put(self, content: bytes) -> Ref:
        """Store this content."""
        ...

    def path(self, ref: Ref) -> Path:
        """A local file with the content, which must not be changed.

        Raises:
            ArtifactDamaged: the file is missing, or its content has changed.
        """
        ...

    def discard(self, ref: Ref) -> None:
        """Remove this content, if it is there; whoever has stored the same content loses it, too."""
        ...


class FolderStore:
    """Artifacts as files in one folder, which all processes of this machine read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> Ref:
        ref = Ref.of(content)
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
            try:
                part.write(content)
                part.flush()
                os.fsync(part.fileno())  # the journal, which outlives a power failure, refers to it
            except OSError:  # such as a full disk
                os.unlink(part.name)
                raise
        os.replace(part.name, self._file(ref))
        return ref

    def put_written(self, write: Callable[[Path], None]) -> Ref:
        """Store the file that `write` writes to the path it is given; the content need not fit in memory."""
        part = self.folder / "written.part"
        write(part)
        ref = Ref(_digest(part))
        os.replace(part, self._file(ref))
        return ref

    def path(self, ref: Ref) -> Path:
        file = self._file(ref)
        try:
            digest = _digest(file)
        except OSError as error:
            raise ArtifactDamaged(f"artifact {ref.digest[:8]} cannot be read: {error.strerror}") from error
        if digest != ref.digest:
            raise ArtifactDamaged(f"artifact {ref.digest[:8]} is damaged: its content has changed")
        return file

    def discard(self, ref: Ref) -> None:
        self._file(ref).unlink(missing_ok=True)

    def _file(self, ref: Ref) -> Path:
        return self.folder / ref.digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
