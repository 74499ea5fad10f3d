"""Registers a model under a name that another plugin uses."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl


def build(spec):
    return Autoencoder(spec, spec.encoder(spec.latent_dim), spec.decoder())


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="vae", title="T", summary="a second vae", build=build)]
