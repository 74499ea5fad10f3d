"""The regularised autoencoder: small codes and a smooth decoder instead of noise and a prior."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Loss, ModelSpec, Params, hookimpl


class RAEParams(Params):
    """Weights, against the squared error of an image: beta of the code and lambda of the decoder.

    The authors' code for MNIST minimises the squared error / 1024 + 1e-4 / 16 * |z|^2 + 1e-7 * |theta|^2.
    """

    code_weight: float = Field(default=0.0128, ge=0)
    decoder_weight: float = Field(default=1e-4, ge=0)


class RAE(Autoencoder):
    """RAE-L2 (Ghosh et al. 2020, section 3): reconstruction + beta |z|^2 / 2 + lambda |theta|^2, without noise.

    theta are the matrices and kernels of the decoder, as in the authors' code, without biases and batch norm. The model
    has no prior: it is sampled by a density that is fitted to its codes after training.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        nats = spec.likelihood.nats_per_squared_error
        self.code_weight, self.decoder_weight = nats * spec.params.code_weight, nats * spec.params.decoder_weight

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        z = self.encode(x).float()
        reconstruction = self.likelihood.mean_nll(self.decode(z), x)
        code = 0.5 * z.square().sum(dim=1).mean()
        theta = [weight for weight in self.decoder.parameters() if weight.dim() > 1]
        decoder = torch.stack([weight.square().sum() for weight in theta]).sum()
        penalty = self.code_weight * code + self.decoder_weight * decoder
        return Loss(reconstruction + penalty, reconstruction, penalty)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="rae",
            title="RAE",
            summary="small codes and a smooth decoder instead of noise and a prior",
            source="Ghosh, Sajjadi, Vergari, Black & Schölkopf 2020",
            params=RAEParams,
            build=RAE,
        )
    ]
