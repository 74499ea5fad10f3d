"""The shallow autoencoder: one encoder layer and one decoder layer; the baseline of the article."""

from __future__ import annotations

from math import prod

from torch import nn

from aebench.contracts import Autoencoder, AutoencoderRecord, Params, hookimpl


def build(input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> Autoencoder:
    """Linear -> ReLU to the code (B, latent_dim), Linear back to logits."""
    pixels = prod(input_shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, latent_dim), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(latent_dim, pixels), nn.Unflatten(1, input_shape))
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
