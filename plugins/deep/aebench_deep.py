"""The deep ("vanilla") autoencoder: three layers on each side, an identity bottleneck, trained end to end."""

from __future__ import annotations

from aebench.contracts import Autoencoder, AutoencoderRecord, Params, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder


def build(input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> Autoencoder:
    return Autoencoder(
        input_shape, latent_dim, DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
    )


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="vanilla",
            title="Vanilla",
            summary="three layers on each side, trained end to end",
            source="Hinton & Salakhutdinov 2006",
            build=build,
        )
    ]
