"""The shallow autoencoder: one encoder layer and one decoder layer; the baseline of the article."""

from __future__ import annotations

from math import prod

from torch import nn

from aebench.contracts import Autoencoder, AutoencoderRecord, ModelSpec, hookimpl


def build(spec: ModelSpec) -> Autoencoder:
    """Linear -> ReLU to the code (B, latent_dim), Linear back to the pixels."""
    pixels = prod(spec.input_shape)
    encoder = nn.Sequential(nn.Flatten(), nn.Linear(pixels, spec.latent_dim), nn.ReLU())
    decoder = nn.Sequential(nn.Linear(spec.latent_dim, pixels), nn.Unflatten(1, spec.input_shape))
    return Autoencoder(spec, encoder, decoder)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="shallow",
            title="Shallow",
            summary="one encoder layer, one decoder layer",
            source="Rumelhart, Hinton & Williams 1986",
            own_networks="one layer on each side is what it is about",
            build=build,
        )
    ]
