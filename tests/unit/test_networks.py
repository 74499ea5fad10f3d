"""The dense networks have the architecture of the article; the convolutional ones fit images of any size."""

import pytest
import torch

from aebench.networks import ConvDecoder, ConvEncoder, DenseDecoder, DenseEncoder, dense_widths
from aebench.networks.conv import map_shapes


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


@pytest.mark.parametrize(
    ("image", "maps"),
    [
        ((1, 8, 8), [(16, 4, 4), (32, 2, 2)]),
        ((1, 32, 32), [(16, 16, 16), (32, 8, 8), (64, 4, 4)]),
        ((3, 9, 40), [(16, 5, 20), (32, 3, 10)]),
        ((3, 64, 64), [(16, 32, 32), (32, 16, 16), (64, 8, 8), (64, 4, 4)]),
    ],
)
def test_convolutions_halve_the_image_until_a_few_pixels_are_left(image, maps):
    assert map_shapes(image) == [image, *maps]
    encoder, decoder = ConvEncoder(image, 7), ConvDecoder(5, image)
    assert encoder(torch.rand(4, *image)).shape == (4, 7)
    assert decoder(torch.randn(4, 5)).shape == (4, *image)


def test_parameter_count_of_the_convolutional_networks():
    parameters = sum(
        p.numel() for m in (ConvEncoder((1, 32, 32), 20), ConvDecoder(20, (1, 32, 32))) for p in m.parameters()
    )
    convolutions, flat = 9 * (1 * 16 + 16 * 32 + 32 * 64), 64 * 4 * 4
    batch_norms = 2 * (16 + 32 + 64) + 2 * (32 + 16 + flat)
    assert parameters == 2 * convolutions + 2 * 20 * flat + batch_norms + 20 + 1 == 89_717
