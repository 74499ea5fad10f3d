"""The arithmetic of a training: float32 with fast matrix products, or matrix products in bfloat16."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from aebench.training.fast_products import fast_products


def arithmetic(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Context manager in which losses are computed in this precision.

    Args:
        precision: "fp32", or "bf16" for matrix products in bfloat16; weights, losses and the optimiser stay float32.
        device: where model and data are.
    """
    if precision == "bf16":
        return torch.autocast(device.type, torch.bfloat16)
    return fast_products(device)
