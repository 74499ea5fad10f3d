"""The reconstruction loss of an image: a sum over its pixels, in float32 for logits of any dtype."""

import pytest
import torch

from aebench.contracts import Autoencoder, ModelSpec, Params, binary_cross_entropy
from aebench.networks import DENSE


@pytest.mark.parametrize("shape", [(7, 1, 32, 32), (3, 3, 5, 7), (4, 11)])
def test_cross_entropy_is_the_negative_log_likelihood_of_each_image(shape):
    torch.manual_seed(0)
    logits, x = torch.randn(shape, dtype=torch.float64), torch.rand(shape, dtype=torch.float64)
    p = logits.sigmoid()
    expected = -(x * p.log() + (1 - x) * (1 - p).log()).flatten(1).sum(dim=1)
    torch.testing.assert_close(binary_cross_entropy(logits.float(), x.float()).double(), expected, rtol=1e-5, atol=1e-5)


def test_half_precision_logits_give_a_float32_loss():
    logits = torch.randn(3, 8, dtype=torch.bfloat16, requires_grad=True)
    loss = binary_cross_entropy(logits, torch.rand(3, 8))
    loss.sum().backward()
    assert (loss.dtype, logits.grad.dtype) == (torch.float32, torch.bfloat16)


def test_the_training_loss_is_the_mean_over_the_batch():
    model = Autoencoder(ModelSpec((1, 4, 4), 16, Params(), DENSE), torch.nn.Flatten(), torch.nn.Unflatten(1, (1, 4, 4)))
    x = torch.rand(5, 1, 4, 4)
    loss = model.loss(x, torch.Generator())
    torch.testing.assert_close(loss.reconstruction, binary_cross_entropy(model.decode(x.flatten(1)), x).mean())
