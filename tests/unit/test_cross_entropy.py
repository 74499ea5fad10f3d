"""The reconstruction loss against PyTorch's, in double precision."""

import pytest
import torch
from torch.nn import functional

from aebench.contracts import binary_cross_entropy


def _expected(logits, x):
    loss = functional.binary_cross_entropy_with_logits(logits.double(), x.double(), reduction="none")
    return loss.flatten(1).sum(dim=1)


@pytest.mark.parametrize("shape", [(7, 1, 32, 32), (3, 3, 5, 7), (2, 1, 1, 1), (4, 11)])
@pytest.mark.parametrize("scale", [0.01, 3.0, 200.0])
def test_values_and_gradients(shape, scale):
    torch.manual_seed(0)
    logits, x = (scale * torch.randn(shape)).requires_grad_(), torch.rand(shape).requires_grad_()
    found, expected = binary_cross_entropy(logits, x), _expected(logits, x)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-6)
    weights = torch.rand(shape[0])
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), (logits, x)),
        torch.autograd.grad((expected * weights).sum(), (logits, x)),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_second_derivatives():
    logits = torch.randn(3, 1, 4, 4, requires_grad=True)
    x = torch.rand(3, 1, 4, 4)
    (gradient,) = torch.autograd.grad(binary_cross_entropy(logits, x).sum(), logits, create_graph=True)
    (second,) = torch.autograd.grad(gradient.sum(), logits)
    p = logits.sigmoid()
    torch.testing.assert_close(second, p * (1 - p))


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.rand(3, 8))
    loss.sum().backward()
    assert (loss.dtype, logits.grad.dtype) == (torch.float32, torch.bfloat16)
