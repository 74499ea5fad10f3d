"""The denoising autoencoder: reconstructs clean images from noisy ones in training."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, ModelSpec, Params, hookimpl


class DenoisingParams(Params):
    """Standard deviation of the Gaussian noise on the inputs, for pixels in [0, 1]."""

    noise: float = Field(default=0.5, ge=0)


class Denoising(Autoencoder):
    """Adds Gaussian noise to the encoder's input in training, clipped to [0, 1]; evaluation uses clean images."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.noise = spec.params.noise

    def corrupt(self, x: Tensor, generator: Generator) -> Tensor:
        noise = torch.randn(x.shape, device=x.device, generator=generator)
        return (x + self.noise * noise).clamp(0, 1)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="denoising",
            title="Denoising",
            summary="reconstructs clean images from noisy ones",
            source="Vincent, Larochelle, Bengio & Manzagol 2008",
            params=DenoisingParams,
            build=Denoising,
        )
    ]
