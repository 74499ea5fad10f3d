"""The variational autoencoder: a Gaussian posterior over codes and a standard normal prior."""

from __future__ import annotations

from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Code, Params, hookimpl
from aebench.networks import DenseDecoder, DenseEncoder, gaussian_bottleneck, sample_standard_normal


class VAE(Autoencoder):
    """Maximises the evidence lower bound (Kingma & Welling 2014, eq. 10); the deterministic code is the mean."""

    def __init__(self, input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> None:
        super().__init__(
            input_shape, latent_dim, DenseEncoder(input_shape, 2 * latent_dim), DenseDecoder(latent_dim, input_shape)
        )

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        return gaussian_bottleneck(h, 1.0, stochastic, generator)

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="vae",
            title="VAE",
            summary="Gaussian posterior, standard normal prior",
            source="Kingma & Welling 2014",
            build=VAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
    ]
