"""The sparse autoencoder: a penalty pulls the mean activation of each code unit towards a target."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Code, ModelSpec, Params, hookimpl


class SparseParams(Params):
    """Target activation p of every unit, and the weight beta of the penalty."""

    sparsity: float = Field(default=0.25, gt=0, lt=1)
    beta: float = Field(default=1.0, ge=0)


class Sparse(Autoencoder):
    """Applies a sigmoid to the code and penalises beta * sum_j KL(Bernoulli(p) || Bernoulli(mean activation_j)).

    The mean is over the batch (Ng, CS294A lecture notes, "Sparse autoencoder", 2011).
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.sparsity = spec.params.sparsity
        self.beta = spec.params.beta

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        z = torch.sigmoid(h)
        return Code(z, self.beta * bernoulli_kl(self.sparsity, z.mean(dim=0)).sum())


def bernoulli_kl(p: float, q: Tensor) -> Tensor:
    """KL(Bernoulli(p) || Bernoulli(q)) in nats, elementwise, finite even if a unit is always 0 or always 1."""
    q = q.clamp(1e-6, 1 - 1e-6)
    target = torch.full_like(q, p)
    return target * (target / q).log() + (1 - target) * ((1 - target) / (1 - q)).log()


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="sparse",
            title="Sparse",
            summary="sigmoid code with a KL penalty on each unit's mean activation",
            source="Ng 2011, CS294A lecture notes",
            params=SparseParams,
            build=Sparse,
        )
    ]
