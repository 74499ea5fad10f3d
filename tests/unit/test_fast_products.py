"""Fast products give the results of linear layers: values, derivatives, and function transforms."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from aebench.training import fast_products as module
from aebench.training.fast_products import fast_products

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def calls(monkeypatch):
    """The arguments of every product that oneDNN computes; every product counts as large."""
    calls = []
    original = module._onednn

    def counting(*arguments):
        calls.append(arguments)
        return original(*arguments)

    monkeypatch.setattr(module, "SMALLEST", 0)
    monkeypatch.setattr(module, "_onednn", counting)
    return calls


needs_avx512 = pytest.mark.skipif(not module._has_fast_products(), reason="this processor has no AVX-512")


@needs_avx512
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(256, 1024), (3, 5), (1, 4), (2, 3, 6)])
def test_values_and_gradients(calls, shape, bias):
    torch.manual_seed(0)
    layer = nn.Linear(shape[-1], 7, bias=bias)
    x = torch.randn(shape, requires_grad=True)
    variables = [x, *layer.parameters()]
    with fast_products(CPU):
        found = layer(x)
    assert len(calls) == 1
    expected = layer(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), variables),
        torch.autograd.grad(expected.square().sum(), variables),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    assert len(calls) == 3  # the gradients of input and weight


def test_second_derivatives():
    """The gradient of a gradient penalty, which some autoencoders use, reaches the weights."""
    torch.manual_seed(0)
    layer = nn.Linear(6, 4)
    x = torch.randn(5, 6, requires_grad=True)

    def penalty():
        (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), layer.weight)[0]

    with fast_products(CPU):
        found = penalty()
    torch.testing.assert_close(found, penalty())


@pytest.mark.parametrize("transform", [torch.func.jacrev, torch.func.vmap])
def test_function_transforms(calls, transform):
    layer = nn.Linear(6, 4)
    x = torch.randn(3, 6)
    with fast_products(CPU):
        found = transform(layer)(x)
    torch.testing.assert_close(found, transform(layer)(x))
    assert not calls


@pytest.mark.parametrize(
    ("x", "weight"),
    [
        (torch.ones(6), torch.ones(4, 6)),
        (torch.ones(2, 6), torch.ones(6)),
        (torch.ones(2, 6).double(), torch.ones(4, 6).double()),
    ],
)
def test_other_dtypes_and_shapes_do_not_use_fast_products(calls, x, weight):
    with fast_products(CPU):
        assert torch.equal(functional.linear(x, weight), functional.linear(x, weight))
    assert not calls


def test_autocast_does_not_use_fast_products(calls):
    with fast_products(CPU), torch.autocast("cpu", torch.bfloat16):
        assert nn.Linear(6, 4)(torch.ones(2, 6)).dtype == torch.bfloat16
    assert not calls


def test_small_products_do_not_use_fast_products(monkeypatch, calls):
    monkeypatch.setattr(module, "SMALLEST", 2 * 6 * 4 + 1)
    with fast_products(CPU):
        nn.Linear(6, 4)(torch.ones(2, 6))
    assert not calls


def test_a_processor_without_avx512_does_not_use_fast_products(monkeypatch, calls):
    module._has_fast_products.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    with fast_products(CPU):
        nn.Linear(6, 4)(torch.ones(2, 6))
    assert not calls
    module._has_fast_products.cache_clear()


def test_fast_products_end_with_the_context(calls):
    with pytest.raises(ValueError, match="of a plugin"), fast_products(CPU):
        raise ValueError("of a plugin")
    nn.Linear(6, 4)(torch.ones(2, 6))
    assert not calls
