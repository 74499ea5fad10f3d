"""Written for the first contract, in which models were built from a shape, a width and parameters."""

from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl


def build(input_shape, latent_dim, params):
    return Autoencoder(input_shape, latent_dim)


@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="older", title="T", summary="for the first contract", build=build)]
