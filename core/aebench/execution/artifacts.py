"""Weights, data and pictures travel by reference: a store of contents, each found by its SHA-256."""

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
    """An artifact is not there, or is not what was put there."""


@dataclass(frozen=True)
class Ref:
    """Names a content: its SHA-256 in hexadecimal digits."""

    digest: str


class ArtifactStore(Protocol):
    """Where jobs find their inputs and leave their outputs, on any engine."""

    def put(self, content: bytes) -> Ref:
        """Keep a content."""
        ...

    def path(self, ref: Ref) -> Path:
        """A local file with the content, to be read only.

        Raises:
            ArtifactDamaged: there is none, or it has changed.
        """
        ...


class FolderStore:
    """Artifacts as files of one folder, which all processes of this machine read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def put(self, content: bytes) -> Ref:
        ref = Ref(hashlib.sha256(content).hexdigest())
        with tempfile.NamedTemporaryFile(dir=self.folder, suffix=".part", delete=False) as part:
            part.write(content)
        os.replace(part.name, self._file(ref))
        return ref

    def put_written(self, write: Callable[[Path], None]) -> Ref:
        """Keep the content that `write` writes to the file it is given, which never has to lie in memory."""
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

    def _file(self, ref: Ref) -> Path:
        return self.folder / ref.digest


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
