"""The convolutional encoder and decoder: strided convolutions with batch norm, for images of any size from 8x8."""

from __future__ import annotations

from itertools import pairwise
from math import prod

from torch import Tensor, nn

from aebench.contracts import BackboneRecord, hookimpl

SMALLEST_SIDE = 8  # pixels of an image
SMALLEST_MAP = 4  # pixels of the shorter side of a feature map at which the strides end
FEWEST_LAYERS = 2
WIDTHS = 16, 32, 64  # channels of successive maps; further ones, for larger images, have the last width

Shape = tuple[int, int, int]


class ConvEncoder(nn.Module):
    """Convolutions from images to codes: (B, C, H, W) -> (B, code_width), float32.

    Each block is Conv 3x3 with stride 2 (no bias) -> BatchNorm -> ReLU; the last layer is a Linear with bias.

    Args:
        input_shape: (C, H, W).
        code_width: width of the output.
    """

    def __init__(self, input_shape: Shape, code_width: int) -> None:
        super().__init__()
        shapes = map_shapes(input_shape)
        self.blocks = nn.Sequential(*(_down(*pair) for pair in pairwise(shapes)))
        self.head = nn.Linear(prod(shapes[-1]), code_width)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, code_width)."""
        h: Tensor = self.head(self.blocks(x).flatten(1))
        return h


class ConvDecoder(nn.Module):
    """The mirrored encoder, with transposed convolutions: codes (B, latent_dim) -> (B, C, H, W), float32.

    Args:
        latent_dim: width of the code.
        output_shape: (C, H, W).
    """

    def __init__(self, latent_dim: int, output_shape: Shape) -> None:
        super().__init__()
        shapes = map_shapes(output_shape)[::-1]
        width = prod(shapes[0])
        self.head = nn.Sequential(
            nn.Linear(latent_dim, width, bias=False), nn.BatchNorm1d(width), nn.ReLU(), nn.Unflatten(1, shapes[0])
        )
        *hidden, last = pairwise(shapes)
        self.blocks = nn.Sequential(*(_up(*pair) for pair in hidden), _transposed(*last, bias=True))

    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, latent_dim) -> (B, C, H, W)."""
        decoded: Tensor = self.blocks(self.head(z))
        return decoded


def map_shapes(image: Shape) -> list[Shape]:
    """Shapes (C, H, W) of the image and of all feature maps, each half as high and wide as the one before, rounded up.

    >>> map_shapes((1, 32, 32))
    [(1, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    >>> map_shapes((3, 9, 13))
    [(3, 9, 13), (16, 5, 7), (32, 3, 4)]
    """
    shapes = [image]
    while len(shapes) <= FEWEST_LAYERS or min(shapes[-1][1:]) > SMALLEST_MAP:
        _, height, width = shapes[-1]
        channels = WIDTHS[min(len(shapes), len(WIDTHS)) - 1]
        shapes.append((channels, -(-height // 2), -(-width // 2)))
    return shapes


def _down(before: Shape, after: Shape) -> nn.Sequential:
    convolution = nn.Conv2d(before[0], after[0], 3, stride=2, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(after[0]), nn.ReLU())


def _up(before: Shape, after: Shape) -> nn.Sequential:
    return nn.Sequential(_transposed(before, after, bias=False), nn.BatchNorm2d(after[0]), nn.ReLU())


def _transposed(before: Shape, after: Shape, bias: bool) -> nn.ConvTranspose2d:
    """From a map to the one of twice its size, or of one pixel less where that is odd."""
    missing = after[1] - (2 * before[1] - 1), after[2] - (2 * before[2] - 1)
    return nn.ConvTranspose2d(before[0], after[0], 3, stride=2, padding=1, output_padding=missing, bias=bias)


CONV = BackboneRecord(
    name="conv",
    title="Convolutional",
    summary="strided 3x3 convolutions with batch norm, mirrored by transposed ones",
    source="Radford, Metz & Chintala 2016, without its adversary",
    encoder=ConvEncoder,
    decoder=ConvDecoder,
    smallest_side=SMALLEST_SIDE,
)


@hookimpl
def aebench_backbones() -> list[BackboneRecord]:
    return [CONV]
