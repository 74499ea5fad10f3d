"""The Wasserstein autoencoder: a kernel distance pulls the distribution of all codes towards the prior."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Loss, ModelSpec, Params, hookimpl
from aebench.networks import sample_standard_normal, standard_normal

SCALES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)  # of the kernel, from the authors' code


class WAEParams(Params):
    """Weight of the squared maximum mean discrepancy against the squared error of an image (the paper's for MNIST)."""

    mmd_weight: float = Field(default=10.0, ge=0)


class WAE(Autoencoder):
    """WAE-MMD (Tolstikhin et al. 2018, algorithm 2) with a deterministic encoder and the prior N(0, I)."""

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.mmd_weight = spec.params.mmd_weight * spec.likelihood.nats_per_squared_error

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        z = self.encode(x).float()
        reconstruction = self.likelihood.mean_nll(self.decode(z), x)
        penalty = self.mmd_weight * squared_mmd(z, standard_normal(z.shape, z.device, generator))
        return Loss(reconstruction + penalty, reconstruction, penalty)

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


def squared_mmd(z: Tensor, prior: Tensor) -> Tensor:
    """Unbiased estimate of MMD^2 between two distributions, from n samples of each (Gretton et al. 2012, lemma 6).

    Args:
        z: (n, D) float32.
        prior: the same shape.

    Returns:
        A scalar, which may be negative; 0 for n = 1, because one sample has no pairs.
    """
    n = len(z)
    if n == 1:
        return z.new_zeros(())
    within = inverse_multiquadratic(z, z) + inverse_multiquadratic(prior, prior)
    return (within.sum() - within.trace()) / (n * (n - 1)) - 2 * inverse_multiquadratic(z, prior).mean()


def inverse_multiquadratic(a: Tensor, b: Tensor) -> Tensor:
    """The sum over C of C / (C + |a_i - b_j|^2): (n, D), (m, D) -> (n, m), with C = 2 D times each of SCALES.

    2 D is the expected squared distance of two samples of N(0, I).
    """
    squared_distance = torch.cdist(a, b).square()
    widths = [2 * a.shape[1] * scale for scale in SCALES]
    return sum((c / (c + squared_distance) for c in widths), torch.zeros_like(squared_distance))


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="wae_mmd",
            title="WAE-MMD",
            summary="the distribution of all codes is pulled towards the prior by a kernel distance",
            source="Tolstikhin, Bousquet, Gelly & Schölkopf 2018",
            params=WAEParams,
            build=WAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
    ]
