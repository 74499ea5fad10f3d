"""How much memory this machine has, and numbers of bytes in words."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import psutil

UNITS = (("EB", 1e18), ("PB", 1e15), ("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3))
_CGROUPS = Path("/sys/fs/cgroup")


def machine_memory() -> int:
    """The memory in bytes that this machine, or the container around this process, has."""
    limits = (_number_in(_CGROUPS / name) for name in ("memory.max", "memory/memory.limit_in_bytes"))
    return min([psutil.virtual_memory().total, *(limit for limit in limits if limit is not None)])


def available_memory() -> int:
    """The memory in bytes that is free on this machine, at most what the container around this process may have."""
    return min(psutil.virtual_memory().available, machine_memory())


def return_free_memory() -> None:
    """Give the system back the memory that this process has freed, which Linux's C library would keep for later."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


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
