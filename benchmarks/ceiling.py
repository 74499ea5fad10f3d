"""The ceiling: the rate at which the machine multiplies large matrices, and the operations that a training needs."""

from __future__ import annotations

import multiprocessing
import time

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from aebench.contracts import Autoencoder
from aebench.execution.devices import cores
from aebench.training.precision import arithmetic

SIZE = 2048
SECONDS = 1.0


def matmul_rate(precision: str, device: str) -> float:
    """Floating-point operations per second; on the CPU of one process per core, each with one thread."""
    if device == "cuda":
        return _rate(precision, device)
    context = multiprocessing.get_context("spawn")
    with context.Pool(cores()) as pool:
        return sum(pool.starmap(_rate, [(precision, device)] * cores(), chunksize=1))


def _rate(precision: str, device: str) -> float:
    torch.set_num_threads(1)
    dtype = {"fp32": torch.float32, "bf16": torch.bfloat16}[precision]
    layer = nn.Linear(SIZE, SIZE, bias=False, device=device, dtype=dtype).requires_grad_(False)
    x = torch.randn(SIZE, SIZE, device=device, dtype=dtype)
    with arithmetic(precision, torch.device(device)):
        layer(x)
        synchronise(device)
        products, started = 0, time.perf_counter()
        while (passed := time.perf_counter() - started) < SECONDS:
            layer(x)
            synchronise(device)
            products += 1
    return products * 2 * SIZE**3 / passed


def training_flops(model: Autoencoder) -> float:
    """Floating-point operations of the matrix products for one training image.

    They cover the forward pass and the backward pass without the gradient of the input. The model is moved to the meta
    device.
    """
    batch = 8
    with FlopCounterMode(display=False) as counter:
        model.to("meta").loss(torch.zeros(batch, *model.input_shape, device="meta"), torch.Generator()).total.backward()
    return counter.get_total_flops() / batch


def synchronise(device: str) -> None:
    """Wait for all queued work on a CUDA device."""
    if device == "cuda":
        torch.cuda.synchronize()
