"""The files of a published data set: downloaded when they are missing or damaged, checked before they are read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock

from aebench.errors import AebenchError, DamagedFile, one_line
from aebench.files import check_regular, read_sealed, write_sealed

DIGESTS = "aebench-digests"  # SHA-256 of files without a published digest, by name, when they were first found good
LOCK = ".aebench-lock"
CHANGED = f"it has changed since its SHA-256 was noted in {DIGESTS} (delete that if you have replaced the file)"


@dataclass(frozen=True)
class PublishedFiles:
    """The files that a loader reads, and the archives that they are published in.

    Attributes:
        title: the data set, as errors name it.
        folder: where all of these files are kept.
        md5: by path below the folder, the published digest of each file that is read; None where none is published.
            The SHA-256 of such a file is remembered in the folder, and compared from then on.
        archives: by file name, the digests of the published archives that contain them; empty if the files are
            published as they are. The download unpacks an archive that is in the folder already.
        check: called with the path of each file without a published digest; raises DamagedFile.
    """

    title: str
    folder: Path
    md5: Mapping[str, str | None]
    archives: Mapping[str, str] = field(default_factory=dict)
    check: Callable[[Path], None] = lambda path: None

    def ensure(self, download: Callable[[], Any]) -> None:
        """Compare all files with their digests; put damaged ones aside and call `download` if one is not there.

        One process at a time downloads into a folder. If a damaged file cannot be had again, it is put back.

        Raises:
            AebenchError: the files cannot be read or downloaded, the folder cannot be written, or what was downloaded
                is damaged.
        """
        if self._missing() or self._damaged():
            self._check_writable()
            with FileLock(self.folder / LOCK):
                damaged = self._damaged()  # another process may have mended them
                if self._missing() or damaged:
                    self._replace(damaged, download)
        self._remember()

    def _replace(self, damaged: Mapping[str, str], download: Callable[[], Any]) -> None:
        aside = {file: self.folder / f"{file}.damaged" for file in damaged}
        for file, path in aside.items():
            os.replace(self.folder / file, path)
        try:
            self._download(download, damaged)
        except BaseException:
            for file, path in aside.items():
                if not (self.folder / file).exists():
                    os.replace(path, self.folder / file)
            raise
        for path in aside.values():
            path.unlink(missing_ok=True)
        self._forget(damaged)
        for why in self._damaged().values():
            raise AebenchError(f"{why}, although it has been downloaded again")

    def _damaged(self) -> dict[str, str]:
        """For each file that is there and not what it was, the message that says so."""
        remembered = self._remembered()
        damaged = {}
        for file, digest in self.md5.items():
            path = self.folder / file
            try:
                if not os.path.lexists(path):
                    continue
                check_regular(path)
                if digest is not None and file_digest(path, "md5") != digest:
                    damaged[file] = corrupt(path, "its MD5 digest is not the published one")
                elif file in remembered and file_digest(path, "sha256") != remembered[file]:
                    damaged[file] = corrupt(path, CHANGED)
                elif digest is None:
                    self.check(path)
            except DamagedFile as error:
                damaged[file] = str(error)
            except OSError as error:
                raise AebenchError(f"{path} cannot be read: {error.strerror or one_line(error)}") from error
        return damaged

    def _remembered(self) -> dict[str, str]:
        try:
            check_regular(self.folder / DIGESTS)
            found: dict[str, str] = json.loads(read_sealed(self.folder / DIGESTS))
        except (OSError, DamagedFile, ValueError):
            return {}
        return found

    def _remember(self) -> None:
        """Note the SHA-256 of files that have no published digest; a folder that cannot be written goes without."""
        known = self._remembered()
        new = [file for file, digest in self.md5.items() if digest is None and file not in known]
        if new:
            with contextlib.suppress(OSError), FileLock(self.folder / LOCK):
                digests = self._remembered() | {file: file_digest(self.folder / file, "sha256") for file in new}
                write_sealed(self.folder / DIGESTS, json.dumps(digests).encode())

    def _forget(self, files: Mapping[str, str]) -> None:
        """Drop the digests of files that were downloaded again."""
        remembered = self._remembered()
        kept = {file: digest for file, digest in remembered.items() if file not in files}
        if kept != remembered:
            with contextlib.suppress(OSError):
                write_sealed(self.folder / DIGESTS, json.dumps(kept).encode())

    def _missing(self) -> list[str]:
        return [file for file in self.md5 if not os.path.lexists(self.folder / file)]

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

    def _download(self, download: Callable[[], Any], damaged: Mapping[str, str]) -> None:
        try:
            download()
            if self._missing():
                raise RuntimeError(f"the download has no {', '.join(self._missing())}")
        except Exception as error:
            found = "".join(f"{why}; " for why in damaged.values())
            raise AebenchError(
                f"{found}{self.title} could not be downloaded ({one_line(error)}); "
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
            elif digest is not None and file_digest(path, "md5") != digest:
                wanted.append(f"{file} (the one there is damaged)")
        return ", ".join(wanted or self._missing() or self.md5)


def file_digest(path: Path, algorithm: str) -> str:
    """The digest of a file in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(algorithm, usedforsecurity=False)).hexdigest()


def corrupt(path: Path, why: str) -> str:
    """The message for a damaged file."""
    return f"{path} is corrupt or truncated: {why}"
