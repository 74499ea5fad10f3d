"""Registers a model under a name that another plugin uses."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder


def build(input_shape, latent_dim, params):
    encoder, decoder = DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
    return Autoencoder(input_shape, latent_dim, encoder, decoder)


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="vae", title="T", summary="a second vae", build=build)]
