"""The deep ("vanilla") autoencoder: three layers on each side, an identity bottleneck, trained end to end."""

from __future__ import annotations

from aebench.contracts import Autoencoder, AutoencoderRecord, ModelSpec, hookimpl


def build(spec: ModelSpec) -> Autoencoder:
    return Autoencoder(spec, spec.encoder(spec.latent_dim), spec.decoder())


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
