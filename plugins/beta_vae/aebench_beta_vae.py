"""Two beta-VAEs: the KL divergence is weighted by 2 in the strict one and by 0.5 in the loose one."""

from __future__ import annotations

from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Code, ModelSpec, Params, hookimpl
from aebench.networks import gaussian_bottleneck, sample_standard_normal


class StrictParams(Params):
    """Weight of the KL divergence."""

    beta: float = Field(default=2.0, ge=0)


class LooseParams(Params):
    """Weight of the KL divergence."""

    beta: float = Field(default=0.5, ge=0)


class BetaVAE(Autoencoder):
    """A VAE whose KL divergence is weighted by beta (Higgins et al. 2017, eq. 4)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(2 * spec.latent_dim), spec.decoder())
        self.beta = spec.params.beta

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        return gaussian_bottleneck(h, self.beta, stochastic, generator)

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name=f"beta_vae_{kind}",
            title=f"β-VAE ({kind})",
            summary=f"a VAE whose KL divergence is weighted by {params().beta:g}",
            source="Higgins et al. 2017",
            params=params,
            build=BetaVAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
        for kind, params in (("strict", StrictParams), ("loose", LooseParams))
    ]
