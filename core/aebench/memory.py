"""How much memory this machine has, and numbers of bytes in words."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from pathlib import Path

import psutil

UNITS = (("EB", 1e18), ("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)
LARGEST_KEPT_BLOCK = 2**25  # bytes; the C library allows no more
_CGROUPS = Path("/sys/fs/cgroup")


def machine_memory() -> int:
    """The memory in bytes that this machine, or the container around this process, has."""
    limits = (_number_in(_CGROUPS / name) for name in ("memory.max", "memory/memory.limit_in_bytes"))
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit is not None)])


def available_memory() -> int:
    """The memory in bytes that is free on this machine, at most what the container around this process may have."""
    return min(psutil.virtual_memory().available, machine_memory())


def keep_freed_memory() -> None:
    """From now on, keep the memory that this process frees for later, until `return_freed_memory`.

    Linux's C library returns large blocks to the system as soon as they are freed. The next step of a training then
    gets them anew, page by page and filled with zeros.
    """
    set_option = _of_c_library("mallopt")
    if set_option is not None:
        set_option(M_MMAP_THRESHOLD, LARGEST_KEPT_BLOCK)
        set_option(M_TRIM_THRESHOLD, 2**31 - 1)


def return_freed_memory() -> None:
    """Give the system back the memory that this process has freed and kept."""
    trim = _of_c_library("malloc_trim")
    if trim is not None:
        trim(0)


def _of_c_library(function: str) -> Callable[..., object] | None:
    """A function of Linux's C library; None elsewhere, and if it has none of this name."""
    return getattr(ctypes.CDLL(None), function, None) if sys.platform == "linux" else None


def _number_in(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such file, or "max"
        return None


def format_bytes(size: float) -> str:
    """A number of bytes with a unit: 512 bytes, 9.1 GB."""
    if size < 1000:
        return f"{size:.0f} bytes"
    unit, factor = next((unit, factor) for unit, factor in UNITS if size >= factor)
    return f"{size / factor:.1f}".removesuffix(".0") + f" {unit}"
