"""Prints while it is imported; correct otherwise."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder

print("hello from a plugin")


def build(input_shape, latent_dim, params):
    encoder, decoder = DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
    return Autoencoder(input_shape, latent_dim, encoder, decoder)


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="talkative", title="T", summary="prints at import", build=build)]
