"""The beta-TC-VAE: a VAE that pays extra for the total correlation of its code."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Code, Loss, ModelSpec, Params, Stage, hookimpl
from aebench.networks import gaussian_bottleneck, sample_standard_normal


class BetaTCVAEParams(Params):
    """Weight of the total correlation; 1 is the VAE. The default is that of the authors' README."""

    beta: float = Field(default=6.0, ge=0)


class BetaTCVAE(Autoencoder):
    """Weights one of three parts of the VAE's KL divergence by beta (Chen et al. 2018, eq. 4, alpha = gamma = 1).

    The KL divergence is the index-code mutual information, the total correlation and the dimension-wise KL divergence
    together (eq. 2). So the penalty is KL + (beta - 1) * total correlation, where KL has a closed form.
    """

    images: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(2 * spec.latent_dim), spec.decoder())
        self.beta = spec.params.beta
        self.register_buffer("images", torch.ones(()))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage("count the images", fit=self._count), *super().stages(epochs))

    def _count(self, images: Tensor, generator: Generator) -> None:
        self.images.fill_(len(images))

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        return gaussian_bottleneck(h, 1.0, stochastic, generator)

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        h = self.encode(x).float()
        code = self.bottleneck(h, stochastic=True, generator=generator)
        reconstruction = self.likelihood.mean_nll(self.decode(code.z), x)
        mu, log_sigma = h.chunk(2, dim=1)
        penalty = code.penalty + (self.beta - 1) * total_correlation(code.z, mu, log_sigma, self.images)
        return Loss(reconstruction + penalty, reconstruction, penalty)

    def sample(self, n: int, generator: Generator) -> Tensor:
        return sample_standard_normal(self, n, generator)


def total_correlation(z: Tensor, mu: Tensor, log_sigma: Tensor, images: Tensor) -> Tensor:
    """Estimate of KL(q(z) || prod_d q(z_d)) in nats, for the mixture q of the posteriors of all training images.

    Minibatch stratified sampling (Chen et al. 2018, appendix C.2), averaged over the order of the batch: an image's
    own posterior has its weight in the data set, and the others of the batch stand for all other images. This makes
    the estimates of q(z) and q(z_d) unbiased; for a batch of all images they are exact.

    Args:
        z, mu, log_sigma: (B, D) float32, a sample of each posterior, its mean and its log standard deviation.
        images: a scalar, the number of training images.

    Returns:
        A scalar; 0 for B = 1.
    """
    if (batch := len(z)) == 1:
        return z.new_zeros(())
    own = torch.eye(batch, dtype=torch.bool, device=z.device)
    log_weight = torch.where(own, 1 / images, (1 - 1 / images) / (batch - 1)).log()
    log_q = -0.5 * ((z[:, None] - mu) / log_sigma.exp()).square() - log_sigma  # [i, j, d], without 2 pi
    joint = (log_weight + log_q.sum(dim=2)).logsumexp(dim=1)
    marginals = (log_weight[:, :, None] + log_q).logsumexp(dim=1)
    return (joint - marginals.sum(dim=1)).mean()


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="beta_tc_vae",
            title="β-TC-VAE",
            summary="a VAE whose total correlation is weighted by beta",
            source="Chen, Li, Grosse & Duvenaud 2018",
            params=BetaTCVAEParams,
            build=BetaTCVAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
    ]
