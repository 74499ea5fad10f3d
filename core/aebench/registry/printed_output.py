"""Sends to a file what is printed to stdout and stderr, by Python or by C code."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
from collections.abc import Iterator
from typing import IO

MOST_BYTES = 1_000_000  # of what one job or one plugin prints; the last ones are kept

_DESCRIPTORS = {"stdout": 1, "stderr": 2}


@contextlib.contextmanager
def redirected_output(file: int) -> Iterator[None]:
    """Inside, everything that this process prints goes to the open file with this descriptor."""
    flush_output()
    saved = {}
    for descriptor in _DESCRIPTORS.values():
        with contextlib.suppress(OSError):  # the process was started without it
            saved[descriptor] = os.dup(descriptor)
            os.dup2(file, descriptor)
    try:
        with _standard_streams():
            yield
    finally:
        flush_output()
        for descriptor, copy in saved.items():
            os.dup2(copy, descriptor)
            os.close(copy)


@contextlib.contextmanager
def _standard_streams() -> Iterator[None]:
    """Inside, `sys.stdout` and `sys.stderr` write to the process's descriptors, also if they were replaced."""
    before = {name: getattr(sys, name) for name in _DESCRIPTORS}
    for name, descriptor in _DESCRIPTORS.items():
        if not _writes_to(before[name], descriptor):
            setattr(sys, name, _stream(descriptor))
    try:
        yield
    finally:
        flush_output()
        for name, stream in before.items():
            setattr(sys, name, stream)


def _writes_to(stream: IO[str] | None, descriptor: int) -> bool:
    try:
        return stream is not None and stream.fileno() == descriptor
    except (OSError, ValueError, AttributeError):
        return False


def _stream(descriptor: int) -> IO[str]:
    # Plugins keep references to it, in handlers of logging, say; the descriptor stays valid, that of the file does not.
    return open(descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)


def flush_output() -> None:
    """Write what Python and the C library hold in their buffers for stdout and stderr."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def last_output(file: int) -> bytes:
    """The last MOST_BYTES of an open file, after a line that says how much is left out."""
    size = os.fstat(file).st_size
    skipped = max(0, size - MOST_BYTES)
    content = os.pread(file, MOST_BYTES, skipped)
    return (b"[the first %d bytes are left out]\n" % skipped if skipped else b"") + content
