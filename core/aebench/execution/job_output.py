"""The files in which workers keep what jobs print, so that it outlives a worker that is killed."""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path

from aebench.execution.artifacts import ArtifactStore, Ref
from aebench.registry.printed_output import MOST_BYTES, last_output

OUTPUT = "output.txt"  # name of the artifact


def output_path(folder: Path, name: str) -> Path:
    """The output file of this name, such as the id of a job, in a folder that is made if need be."""
    folder.mkdir(exist_ok=True)
    return folder / f"{hashlib.sha256(name.encode()).hexdigest()[:16]}.txt"


def create_output_file(path: Path) -> int:
    """Create or empty an output file; return its descriptor."""
    # Every write goes to the end, so that `trim` may shorten the file at any time, also from another process.
    return os.open(path, os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_RDWR, 0o600)


def trim(path: Path) -> None:
    """Shorten an output file that is much longer than MOST_BYTES to its last MOST_BYTES."""
    with contextlib.suppress(OSError):
        if path.stat().st_size <= 2 * MOST_BYTES:
            return
        with path.open("ab+", buffering=0) as file:
            kept = last_output(file.fileno())
            file.truncate(0)
            file.write(kept)


def collect_output(artifacts: ArtifactStore, path: Path) -> dict[str, Ref]:
    """Store the end of an output file as an artifact and remove the file; nothing if nothing was printed."""
    content = b""
    with contextlib.suppress(OSError), path.open("rb") as file:
        content = last_output(file.fileno())
    path.unlink(missing_ok=True)
    return {OUTPUT: artifacts.put(content)} if content else {}
