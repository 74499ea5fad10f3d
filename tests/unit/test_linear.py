"""The faster linear layer is a linear layer: values, derivatives of any order, and whatever traces or transforms it."""

import pytest
import torch
from torch.nn import functional

from aebench.networks import linear
from aebench.networks.linear import Linear


@pytest.fixture(autouse=True)
def _every_product_is_worthwhile(monkeypatch):
    monkeypatch.setattr(linear, "WORTHWHILE", 0)


CASES = [(256, 1024, 341), (3, 5, 7), (1, 4, 2)]


def _pair(inputs, outputs, bias):
    torch.manual_seed(0)
    layer = Linear(inputs, outputs, bias=bias)
    return layer, lambda x: functional.linear(x, layer.weight, layer.bias)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("rows", "inputs", "outputs"), CASES)
def test_values_and_gradients(rows, inputs, outputs, bias):
    layer, plain = _pair(inputs, outputs, bias)
    x = torch.randn(rows, inputs, requires_grad=True)
    wanted = [x, *layer.parameters()]
    found, expected = layer(x), plain(x)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), wanted),
        torch.autograd.grad(expected.square().sum(), wanted),
        strict=True,
    ):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_second_derivatives():
    """A gradient penalty, as some autoencoders have one, reaches the weights."""
    layer, plain = _pair(6, 4, True)
    x = torch.randn(5, 6, requires_grad=True)

    def penalty(f):
        (gradient,) = torch.autograd.grad(f(x).square().sum(), x, create_graph=True)
        return torch.autograd.grad(gradient.square().sum(), layer.weight)[0]

    torch.testing.assert_close(penalty(layer), penalty(plain))


def test_function_transforms():
    layer, plain = _pair(6, 4, True)
    x = torch.randn(6)
    torch.testing.assert_close(torch.func.jacrev(lambda x: layer(x[None])[0])(x), torch.func.jacrev(plain)(x))


def test_other_types_and_shapes_take_the_ordinary_way():
    layer, plain = _pair(6, 4, True)
    assert torch.equal(layer(torch.ones(2, 3, 6)), plain(torch.ones(2, 3, 6)))
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.ones(2, 6)).dtype == torch.bfloat16
    layer.double()
    assert layer(torch.ones(2, 6).double()).dtype == torch.float64


def test_where_there_is_no_avx512_nothing_is_special(monkeypatch):
    linear._onednn_is_there.cache_clear()
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")
    layer, plain = _pair(6, 4, True)
    assert torch.equal(layer(torch.ones(2, 6)), plain(torch.ones(2, 6)))
    linear._onednn_is_there.cache_clear()


def test_an_export_takes_any_number_of_rows():
    layer, plain = _pair(6, 4, True)
    exported = torch.export.export(layer, (torch.ones(2, 6),), dynamic_shapes=({0: torch.export.Dim.AUTO},)).module()
    torch.testing.assert_close(exported(torch.ones(5, 6)), plain(torch.ones(5, 6)))
