"""What this machine has to train on: devices, cores, and the precision its arithmetic is fast in."""

from __future__ import annotations

import os

import torch

from aebench.errors import AebenchError


def choose_device(wish: str) -> torch.device:
    """`auto` is the CUDA device where there is one, else the CPU.

    Raises:
        AebenchError: the wish is no device, or not one of this machine's.
    """
    if wish == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(wish)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise AebenchError(f"--device: '{wish}' is not a device aebench knows; use auto, cpu, cuda or cuda:N")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise AebenchError(f"--device: '{wish}' is not there; this machine has {count or 'no'} CUDA devices; try cpu")
    return device


def choose_precision(wish: str, device: torch.device) -> str:
    """ "fp32" or "bf16"; `auto` is bf16 on a CPU that multiplies it in hardware, and fp32 everywhere else.

    On CUDA `auto` stays with fp32: networks of this size are bound there by the number of kernels, not by arithmetic.
    """
    if wish != "auto":
        return wish
    return "bf16" if device.type == "cpu" and _multiplies_bf16() else "fp32"


def cores() -> int:
    """Cores this process may use; not every system can tell, then all there are."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _multiplies_bf16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; False where this PyTorch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
