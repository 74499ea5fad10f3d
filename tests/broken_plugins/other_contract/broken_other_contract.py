"""Was written for another contract."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder

AEBENCH_CONTRACT = 2


def build(input_shape, latent_dim, params):
    encoder, decoder = DenseEncoder(input_shape, latent_dim), DenseDecoder(latent_dim, input_shape)
    return Autoencoder(input_shape, latent_dim, encoder, decoder)


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="from_the_future", title="T", summary="contract 2", build=build)]
