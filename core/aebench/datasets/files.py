"""The files of a published data set: downloaded when they are missing, checked before they are read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError


@dataclass(frozen=True)
class PublishedFiles:
    """The files that a loader reads, and the archives that they are published in.

    Attributes:
        title: the data set, as errors name it.
        folder: where all of these files are kept.
        md5: by path below the folder, the published digest of each file that is read; None where none is published.
        archives: by file name, the digests of the published archives that contain them; empty if the files are
            published as they are. The download unpacks an archive that is in the folder already.
    """

    title: str
    folder: Path
    md5: Mapping[str, str | None]
    archives: Mapping[str, str] = field(default_factory=dict)

    def ensure(self, download: Callable[[], Any]) -> None:
        """Call `download` if a file is missing, and compare all files with their digests.

        Raises:
            AebenchError: the files cannot be downloaded, the folder cannot be written, or a file is damaged.
        """
        if self._missing():
            self._check_writable()
            self._download(download)
        for file, digest in self.md5.items():
            if digest is not None and file_md5(self.folder / file) != digest:
                raise AebenchError(corrupt(self.folder / file, "its MD5 digest is not the published one"))

    def _missing(self) -> list[str]:
        return [file for file in self.md5 if not (self.folder / file).is_file()]

    def _check_writable(self) -> None:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            (self.folder / ".writable").touch()
            (self.folder / ".writable").unlink()
        except OSError as error:
            raise AebenchError(
                f"{self.title} is not in {self.folder}, and that directory cannot be written ({error.strerror}); "
                "choose another with --data-dir or AEBENCH_DATA_DIR"
            ) from error

    def _download(self, download: Callable[[], Any]) -> None:
        try:
            download()
            if self._missing():
                raise RuntimeError(f"the download has no {', '.join(self._missing())}")
        except Exception as error:
            raise AebenchError(
                f"{self.title} could not be downloaded ({' '.join(str(error).split()) or type(error).__name__}); "
                f"without a network, put {self._by_hand()} into {self.folder}, or run on 'digits', which needs no "
                "download"
            ) from error

    def _by_hand(self) -> str:
        """What a user has to put into the folder: files that are not there, and files that are damaged."""
        wanted = []
        for file, digest in (self.archives or self.md5).items():
            path = self.folder / file
            if not path.is_file():
                wanted.append(file)
            elif digest is not None and file_md5(path) != digest:
                wanted.append(f"{file} (the one there is damaged)")
        return ", ".join(wanted or self._missing() or self.md5)


def file_md5(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def corrupt(path: Path, why: str) -> str:
    """The message for a damaged file."""
    return f"{path} is corrupt or truncated: {why}; delete it and run again to download it again"
