"""Files that survive a crash: each is written as a whole or not at all, and checked before it is used."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from pathlib import Path

from aebench.errors import DamagedFile

DIGEST_BYTES = 32


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it has either its old content or all of the new one, also after a power failure.

    Only one process may write the same path at a time: the unfinished file has a fixed name, so that the next attempt
    replaces what a killed process has left.

    Raises:
        OSError: the file cannot be written; the unfinished file is removed.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def write_sealed(path: Path, content: bytes) -> None:
    """Write a file atomically, with the SHA-256 of its content in front; see `read_sealed`.

    Raises:
        OSError: the file cannot be written.
    """
    write_atomically(path, hashlib.sha256(content).digest() + content)


def read_sealed(path: Path) -> bytes:
    """The content that `write_sealed` wrote.

    Raises:
        OSError: the file is missing or cannot be read.
        DamagedFile: its content is not what was written.
    """
    sealed = path.read_bytes()
    content = sealed[DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != sealed[:DIGEST_BYTES]:
        raise DamagedFile(f"{path} is damaged: its content has changed since it was written")
    return content


def check_regular(path: Path) -> None:
    """Refuse what is not a file with content: reading a named pipe or a device might never end.

    Raises:
        OSError: the path is missing, or is a folder, a pipe, a socket or a device; a link is followed.
    """
    try:
        mode = path.stat().st_mode
    except ValueError as error:  # a NUL character
        raise OSError(errno.EINVAL, str(error), str(path)) from error
    if not stat.S_ISREG(mode):
        kind = {stat.S_IFDIR: "folder", stat.S_IFIFO: "named pipe", stat.S_IFSOCK: "socket"}
        raise OSError(errno.EINVAL, f"it is a {kind.get(stat.S_IFMT(mode), 'device')}, not a file", str(path))
