"""Faster matrix products on the CPU for the linear layers of every model.

PyTorch multiplies float32 matrices on x86 with MKL, which uses only AVX2 on processors of other makers than Intel.
oneDNN, which PyTorch also contains, uses AVX-512 on every processor that has it and is then twice as fast. Both compute
in float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

SMALLEST = 2**23  # multiplications; for smaller products the overhead exceeds the gain
_plain_linear = functional.linear


def fast_products(device: torch.device) -> AbstractContextManager[None]:
    """Context manager in which oneDNN computes large float32 products of `functional.linear` on this device.

    This covers `nn.Linear` and everything built on it. Nothing changes on CUDA, on a CPU without AVX-512, under
    autocast, and inside transforms such as `vmap`. A `TorchFunctionMode` does not see what oneDNN computes.
    """
    return _replaced_linear() if device.type == "cpu" and _has_fast_products() else nullcontext()


@contextmanager
def _replaced_linear() -> Iterator[None]:
    """In this process `functional.linear` is `_linear`; a `TorchFunctionMode` would slow down all other functions."""
    before = functional.linear
    functional.linear = _linear
    try:
        yield
    finally:
        functional.linear = before


def _linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """`functional.linear`: input (..., K), weight (N, K), bias (N,) or None -> (..., N)."""
    if not _is_worthwhile(input, weight):
        return _plain_linear(input, weight, bias)
    product: Tensor = _Product.apply(input.flatten(0, -2), weight, bias)
    return product if input.dim() == 2 else product.unflatten(0, input.shape[:-1])


class _Product(torch.autograd.Function):
    """a (M, K), b (N, K), c (N,) or None -> a @ b.T + c (M, N), differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
        ctx.save_for_backward(a, b)
        return _onednn(a, b, c)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        a, b = ctx.saved_tensors
        needs_a, needs_b, needs_c = ctx.needs_input_grad
        product = _Product.apply if torch.is_grad_enabled() else _onednn  # a second derivative needs its graph
        return (
            product(gradient, b.t(), None) if needs_a else None,
            product(gradient.t(), a.t(), None) if needs_b else None,
            gradient.sum(dim=0) if needs_c else None,
        )


def _onednn(a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, c, "none", [], "")
    return product


def _is_worthwhile(x: Tensor, weight: Tensor) -> bool:
    return (
        x.device.type == "cpu"
        and x.dim() >= 2
        and weight.dim() == 2
        and x.dtype == weight.dtype == torch.float32
        and x.numel() * weight.shape[0] >= SMALLEST
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


@cache
def _has_fast_products() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
