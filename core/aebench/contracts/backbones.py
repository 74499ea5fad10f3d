"""The networks that the benchmark gives to its models, so that models differ only in what they are about."""

from __future__ import annotations

from collections.abc import Callable

from pydantic import Field
from torch import nn

from aebench.contracts.record_base import Record


class BackboneRecord(Record):
    """Registers a pair of an encoder and a decoder that any model can be built on.

    Attributes:
        name, title, summary, source: as for a model; `params` is not used.
        encoder: (input_shape, code_width) -> an untrained module from images (B, C, H, W) to (B, code_width).
        decoder: (latent_dim, output_shape) -> an untrained module from codes (B, latent_dim) to (B, C, H, W) float,
            which the likelihood interprets. Both may draw from torch's default generator, which the core seeds.
        smallest_side: pixels that height and width of the images must have at least.
    """

    encoder: Callable[[tuple[int, int, int], int], nn.Module]
    decoder: Callable[[int, tuple[int, int, int]], nn.Module]
    smallest_side: int = Field(default=1, gt=0)
