"""The dense encoder and decoder of all deep variants: geometric widths, batch norm, ReLU."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from aebench.contracts import BackboneRecord, hookimpl

LAYERS = 3


class DenseEncoder(nn.Module):
    """Dense network from images to codes: (B, C, H, W) -> (B, code_width), float32.

    Each hidden block is Linear(no bias) -> BatchNorm -> ReLU; the last layer is a Linear with bias.

    Args:
        input_shape: (C, H, W).
        code_width: width of the output; the hidden widths follow from it, see `dense_widths`.
    """

    def __init__(self, input_shape: Sequence[int], code_width: int) -> None:
        super().__init__()
        self.blocks = _blocks([*dense_widths(prod(input_shape), code_width), code_width])

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> (B, code_width)."""
        h: Tensor = self.blocks(x.flatten(1))
        return h


class DenseDecoder(nn.Module):
    """The mirrored encoder: codes (B, latent_dim) -> (B, C, H, W), float32.

    Args:
        latent_dim: width of the code; the hidden widths follow from it, see `dense_widths`.
        output_shape: (C, H, W).
    """

    def __init__(self, latent_dim: int, output_shape: Sequence[int]) -> None:
        super().__init__()
        self.output_shape = tuple(output_shape)
        self.blocks = _blocks([*dense_widths(prod(output_shape), latent_dim), latent_dim][::-1])

    def forward(self, z: Tensor) -> Tensor:
        """Codes (B, latent_dim) -> (B, C, H, W)."""
        decoded: Tensor = self.blocks(z)
        return decoded.unflatten(1, self.output_shape)


def dense_widths(pixels: int, code_width: int, layers: int = LAYERS) -> list[int]:
    """Input width and hidden widths, which decrease geometrically from `pixels` to `code_width`.

    With ratio r = floor((pixels // code_width) ** (1 / layers)) these are pixels, pixels // r, pixels // r**2, ...
    The root is computed in floating point, as in the article's code: 512 ** (1/3) floors to 7.

    >>> dense_widths(1024, 20)
    [1024, 341, 113]
    >>> dense_widths(1024, 2)
    [1024, 146, 20]
    """
    ratio = max(1, int((pixels // code_width) ** (1 / layers)))
    return [max(1, pixels // ratio**layer) for layer in range(layers)]


def _blocks(widths: Sequence[int]) -> nn.Sequential:
    *hidden, (inputs, outputs) = pairwise(widths)
    return nn.Sequential(*(_hidden_block(*pair) for pair in hidden), nn.Linear(inputs, outputs))


def _hidden_block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(inputs, outputs, bias=False), nn.BatchNorm1d(outputs), nn.ReLU())


DENSE = BackboneRecord(
    name="dense",
    title="Dense",
    summary="three layers on each side with batch norm, their widths in geometric progression; the article's",
    encoder=DenseEncoder,
    decoder=DenseDecoder,
)


@hookimpl
def aebench_backbones() -> list[BackboneRecord]:
    return [DENSE]
