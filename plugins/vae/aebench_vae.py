"""The variational autoencoder: a Gaussian posterior over codes and a standard normal prior."""

from __future__ import annotations

from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Code, ModelSpec, hookimpl
from aebench.networks import gaussian_bottleneck, sample_standard_normal


class VAE(Autoencoder):
    """Maximises the evidence lower bound (Kingma & Welling 2014, eq. 10); the deterministic code is the mean."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(2 * spec.latent_dim), spec.decoder())

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
