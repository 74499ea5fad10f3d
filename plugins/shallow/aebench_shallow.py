"""The shallow autoencoder: one encoder layer and one decoder layer; the baseline of the article."""

from __future__ import annotations

from math import prod

from torch import nn

from aebench.contracts import Autoencoder, AutoencoderRecord, Params, hookimpl
from aebench.networks.linear import Linear

AEBENCH_CONTRACT = 1


def build(input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> Autoencoder:
    """Linear -> ReLU to the code (B, latent_dim), Linear back to logits."""
    pixels = prod(input_shape)
    encoder = nn.Sequential(nn.Flatten(), Linear(pixels, latent_dim), nn.ReLU())
    decoder = nn.Sequential(Linear(latent_dim, pixels), nn.Unflatten(1, input_shape))
    return Autoencoder(input_shape, latent_dim, encoder, decoder)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="shallow",
            title="Shallow",
            summary="one encoder layer, one decoder layer",
            source="Rumelhart, Hinton & Williams 1986",
            build=build,
        )
    ]
