"""The Gaussian bottleneck, shared by every variational model."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, Code


def gaussian_bottleneck(h: Tensor, kl_weight: float, stochastic: bool, generator: Generator | None) -> Code:
    """Diagonal Gaussian posterior N(mu, sigma^2), reparameterised (Kingma & Welling 2014, eq. 10).

    Args:
        h: (B, 2 * latent_dim) float32: mu, then log sigma.
        kl_weight: beta, the weight of KL(posterior || N(0, I)) (Higgins et al. 2017, eq. 4).
        stochastic: draw z from the posterior; otherwise z is its mean.
        generator: source of the noise, on the device of `h`; None for PyTorch's global one.

    Returns:
        Code with z (B, latent_dim) and the scalar penalty beta * KL in nats per image: KL is summed over dimensions and
        averaged over the batch.
    """
    mu, log_sigma = h.chunk(2, dim=1)
    sigma = log_sigma.exp()
    kl = 0.5 * (mu**2 + sigma**2 - 1) - log_sigma
    z = mu + sigma * standard_normal(mu.shape, mu.device, generator) if stochastic else mu
    return Code(z, kl_weight * kl.sum(dim=1).mean())


def sample_standard_normal(model: Autoencoder, n: int, generator: Generator) -> Tensor:
    """Decode n codes z ~ N(0, I): (n, *input_shape) float32 in [0, 1], on the device of `generator` and model."""
    return model.decode_in_batches(standard_normal((n, model.latent_dim), generator.device, generator))


def standard_normal(shape: tuple[int, ...], device: torch.device, generator: Generator | None) -> Tensor:
    """Noise from N(0, 1), float32, on `device`; `generator` lies there too, None is PyTorch's global one."""
    return torch.randn(shape, device=device, generator=generator)
