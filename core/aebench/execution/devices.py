"""The devices and cores of this machine, and the precision in which its arithmetic is fast."""

from __future__ import annotations

import os

import torch

from aebench.errors import AebenchError


def choose_device(requested: str) -> torch.device:
    """The device of this name; `auto` is the CUDA device if there is one, else the CPU.

    Raises:
        AebenchError: there is no device of this name, or this machine does not have it.
    """
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda") or (device.type == "cpu" and device.index is not None):
        raise AebenchError(
            f"--device: '{requested}' is not a device that aebench supports; use auto, cpu, cuda or cuda:N"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        count = torch.cuda.device_count()
        raise AebenchError(
            f"--device: '{requested}' does not exist: this machine has {count or 'no'} CUDA devices; try cpu"
        )
    return device


def choose_precision(requested: str, device: torch.device) -> str:
    """ "fp32" or "bf16"; `auto` is bf16 on a CPU that multiplies it in hardware, and fp32 everywhere else.

    On CUDA `auto` is fp32: the number of kernels limits the speed of networks of this size, not their arithmetic.
    """
    if requested != "auto":
        return requested
    return "bf16" if device.type == "cpu" and _multiplies_bf16() else "fp32"


def cores() -> int:
    """The number of cores that this process may use; all cores of the machine where the system does not tell."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _multiplies_bf16() -> bool:
    """Whether the CPU has instructions for products of bfloat16; False where this PyTorch cannot tell."""
    if not hasattr(torch.cpu, "get_capabilities"):
        return False
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
