"""Prints while it is imported; correct otherwise."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl

print("hello from a plugin")


def build(spec):
    return Autoencoder(spec, spec.encoder(spec.latent_dim), spec.decoder())


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="talkative", title="T", summary="prints at import", build=build)]
