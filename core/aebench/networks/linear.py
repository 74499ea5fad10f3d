"""The linear layer behind every dense network: `nn.Linear`, with the faster of two matrix products on CPUs.

PyTorch multiplies float32 matrices on x86 with MKL, which keeps to AVX2 on processors that are not Intel's; oneDNN,
which PyTorch brings along too, uses AVX-512 wherever it is and is then twice as fast. Both round as float32 does.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

WORTHWHILE = 2**20  # multiplications; below, the way there costs more than it saves


class Linear(nn.Linear):
    """`nn.Linear` in all but speed: the same parameters, names and initial values."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_features) -> (B, out_features)."""
        if not _is_ours(x, self.weight):
            return functional.linear(x, self.weight, self.bias)
        y: Tensor = _Product.apply(x, self.weight, self.bias)
        return y


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
        of_a, of_b, of_c = ctx.needs_input_grad
        product = _Product.apply if torch.is_grad_enabled() else _onednn  # the second derivative is rarely wanted
        return (
            product(gradient, b.t(), None) if of_a else None,
            product(gradient.t(), a.t(), None) if of_b else None,
            gradient.sum(dim=0) if of_c else None,
        )


def _onednn(a: Tensor, b: Tensor, c: Tensor | None) -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, c, "none", [], "")
    return product


def _is_ours(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply: large float32 matrices on a CPU with AVX-512, and nothing is being traced."""
    return (
        not torch.compiler.is_compiling()  # first: looking at a traced size would fix it
        and x.device.type == "cpu"
        and x.dim() == 2
        and x.dtype == weight.dtype == torch.float32
        and len(x) * weight.numel() >= WORTHWHILE
        and _onednn_is_there()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


@cache
def _onednn_is_there() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
