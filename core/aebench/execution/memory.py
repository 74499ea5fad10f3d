"""How much memory a worker may use and does use, and what to say when memory runs out."""

from __future__ import annotations

import re

import psutil
import torch

from aebench.memory import available_memory, format_bytes, machine_memory

GIGABYTE = 10**9
SMALLEST_SHARE = 2 * GIGABYTE  # a worker with PyTorch and all plugins takes a quarter of it

# What PyTorch and the libraries of CUDA say in a RuntimeError, apart from torch.OutOfMemoryError.
_SIGNS = ("can't allocate memory", "out of memory", "bad_alloc", "_ALLOC_FAILED", "Storage size calculation overflowed")
_ASKED = (
    re.compile(r"tried to allocate (?P<amount>\d+) bytes"),
    re.compile(r"(?:Tried|Unable) to allocate (?P<amount>[\d.]+) (?P<unit>[KMGTPE]?i?B)"),
)


def default_worker_memory(workers: int) -> int:
    """The memory in bytes that each of so many workers may take: an equal share, but at least 2 GB."""
    return max(SMALLEST_SHARE, machine_memory() // max(workers, 1))


def private_memory(pid: int) -> int:
    """The memory in bytes that a process shares with no file and no other process; 0 for one that has ended."""
    try:
        memory = psutil.Process(pid).memory_info()
    except psutil.Error:
        return 0
    return max(0, memory.rss - getattr(memory, "shared", 0))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that the memory of the machine or of a device has run out."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SIGNS)


def out_of_memory_message(error: BaseException, circumstances: str, device: torch.device) -> str:
    """What an exception for which `is_out_of_memory` is true means, in one line with sizes.

    Args:
        error: the exception.
        circumstances: sizes of what was computed.
        device: on which it was.
    """
    asked = _asked_for(error)
    wanted = f"{format_bytes(asked)} were asked for" if asked is not None else "of an amount that is not known"
    return f"out of memory: {wanted}, with {circumstances}; {_available(device)}"


def _asked_for(error: BaseException) -> float | None:
    for pattern in _ASKED:
        if match := pattern.search(str(error)):
            unit = match.groupdict().get("unit") or "B"
            return float(match["amount"]) * _bytes_of(unit)
    return None


def _bytes_of(unit: str) -> float:
    power = "BKMGTPE".index(unit[0])
    return float((1024 if "i" in unit else 1000) ** power)


def _available(device: torch.device) -> str:
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{format_bytes(free)} of the device's {format_bytes(total)} are free"
    return f"{format_bytes(available_memory())} of the machine's {format_bytes(machine_memory())} are free"
