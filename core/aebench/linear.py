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


class Linear(nn.Linear):
    """`nn.Linear` in all but speed: the same parameters, names and initial values."""

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in_features) -> (B, out_features)."""
        if not _is_ours(x, self.weight):
            return functional.linear(x, self.weight, self.bias)
        y: Tensor = _ProductWithTransposed.apply(x, self.weight)
        return y if self.bias is None else y + self.bias


class _ProductWithTransposed(torch.autograd.Function):
    """a (M, K), b (N, K) -> a @ b.T (M, N), differentiable any number of times."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        product: Tensor = torch.ops.mkldnn._linear_pointwise(a, b, None, "none", [], "")
        return product

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None]:
        (gradient,) = gradients
        a, b = ctx.saved_tensors
        of_a, of_b = ctx.needs_input_grad
        return (
            _ProductWithTransposed.apply(gradient, b.t()) if of_a else None,
            _ProductWithTransposed.apply(gradient.t(), a.t()) if of_b else None,
        )


def _is_ours(x: Tensor, weight: Tensor) -> bool:
    """Whether oneDNN is to multiply: plain float32 matrices on a CPU with AVX-512, and nothing is being traced."""
    return (
        x.device.type == "cpu"
        and x.dim() == 2
        and x.dtype == weight.dtype == torch.float32
        and _onednn_is_there()
        and not torch.is_autocast_enabled("cpu")
        and not torch.compiler.is_compiling()
        and not torch._C._are_functorch_transforms_active()
    )


@cache
def _onednn_is_there() -> bool:
    return torch.backends.cpu.get_cpu_capability() == "AVX512" and hasattr(torch.ops.mkldnn, "_linear_pointwise")
