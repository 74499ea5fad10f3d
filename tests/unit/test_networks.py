"""The dense networks have the architecture of the article."""

import pytest
import torch

from aebench.networks import DenseDecoder, DenseEncoder, dense_widths


@pytest.mark.parametrize(
    ("pixels", "code_width", "expected"),
    [
        (1024, 20, [1024, 341, 113]),
        (1024, 40, [1024, 512, 256]),  # a variational encoder of 20 dimensions
        (1024, 2, [1024, 146, 20]),  # 512 ** (1/3) is 7.99... in floating point
        (64, 20, [64, 64, 64]),
        (4, 20, [4, 4, 4]),  # codes wider than the image
    ],
)
def test_widths(pixels, code_width, expected):
    assert dense_widths(pixels, code_width) == expected


def test_hidden_blocks_are_linear_without_bias_then_batch_norm_then_relu():
    encoder, decoder = DenseEncoder((1, 32, 32), 20), DenseDecoder(20, (1, 32, 32))
    for blocks in (encoder.blocks, decoder.blocks):
        *hidden, last = blocks
        assert [[type(layer).__name__ for layer in block] for block in hidden] == [
            ["Linear", "BatchNorm1d", "ReLU"]
        ] * 2
        assert all(block[0].bias is None for block in hidden)
        assert isinstance(last, torch.nn.Linear)
    widths = [block[0].out_features for block in decoder.blocks[:-1]]
    assert widths == [113, 341]


def test_parameter_count_of_the_article_network():
    parameters = sum(
        p.numel() for m in (DenseEncoder((1, 32, 32), 20), DenseDecoder(20, (1, 32, 32))) for p in m.parameters()
    )
    assert parameters == 2 * 1024 * 341 + 2 * 341 * 113 + 2 * 113 * 20 + 4 * (341 + 113) + 20 + 1024


def test_colour_images():
    assert DenseDecoder(5, (3, 16, 16))(DenseEncoder((3, 16, 16), 5)(torch.rand(4, 3, 16, 16))).shape == (4, 3, 16, 16)
