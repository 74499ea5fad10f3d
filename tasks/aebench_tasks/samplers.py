"""Samplers: a model's own prior, and densities that are fitted on its codes after training (Ghosh et al. 2020)."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import torch
from torch import Generator, Tensor

from aebench.contracts import AebenchError, Autoencoder, Capability, SamplerRecord, hookimpl
from aebench.networks import standard_normal

Draw = Callable[[int, Generator], Tensor]

COMPONENTS = 10  # of the mixture, as in Ghosh et al. 2020
MIXTURE_CODES = 10_000  # that the mixture is fitted on, at most
WIDEST_FULL = 128  # dimensions of codes up to which the mixture has full covariances
RELATIVE_JITTER = 1e-6  # added to the diagonal of a covariance, over the mean variance


def own_prior(model: Autoencoder, codes: Tensor, generator: Generator) -> Draw:
    """The prior that the model itself declares; nothing is fitted."""
    return model.sample


def gaussian(model: Autoencoder, codes: Tensor, generator: Generator) -> Draw:
    """A Gaussian with the mean and the full covariance of the codes (Ghosh et al. 2020, sec. 4)."""
    values = _finite(codes).double()
    mean, covariance = values.mean(dim=0), torch.atleast_2d(values.T.cov())
    return _decoded(model, torch.ones(1), mean[None], _factors(covariance[None]))


def gaussian_mixture(model: Autoencoder, codes: Tensor, generator: Generator) -> Draw:
    """A mixture of ten Gaussians, fitted by expectation maximisation (Ghosh et al. 2020, sec. 4).

    It has full covariances for codes of up to 128 dimensions, and diagonal ones for wider codes.
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits

    n, width = codes.shape
    chosen = torch.randperm(n, generator=generator, device=generator.device)[:MIXTURE_CODES]
    values = _finite(codes)[chosen].double().cpu().numpy()
    mixture = GaussianMixture(
        min(COMPONENTS, len(values)),
        covariance_type="full" if width <= WIDEST_FULL else "diag",
        reg_covar=RELATIVE_JITTER * float(values.var(axis=0).mean()) + np.finfo(np.float32).tiny,
        random_state=int(torch.randint(2**31, (), generator=generator, device=generator.device)),
    )
    # The products are small: one thread is as fast as many, and many wait for each other on a busy machine.
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a mixture that still improves slowly samples as well
        mixture.fit(values)
    covariances = torch.from_numpy(mixture.covariances_)
    factors = _factors(covariances) if covariances.dim() == 3 else covariances.sqrt()
    return _decoded(model, torch.from_numpy(mixture.weights_), torch.from_numpy(mixture.means_), factors)


def _decoded(model: Autoencoder, weights: Tensor, means: Tensor, factors: Tensor) -> Draw:
    """Decoded codes of a mixture of Gaussians.

    Args:
        model: decodes them.
        weights: of the components, (K,).
        means: (K, D).
        factors: F with covariance F F^T, (K, D, D), or standard deviations, (K, D).
    """

    def draw(n: int, generator: Generator) -> Tensor:
        device = generator.device
        component = torch.multinomial(weights.float().to(device), n, replacement=True, generator=generator)
        noise = standard_normal((n, means.shape[1]), device, generator)
        codes = torch.empty_like(noise)
        for k, (mean, factor) in enumerate(zip(means.float().to(device), factors.float().to(device), strict=True)):
            own = component == k
            codes[own] = mean + (noise[own] * factor if factor.dim() == 1 else noise[own] @ factor.T)
        return model.decode_in_batches(codes)

    return draw


def _factors(covariances: Tensor) -> Tensor:
    """F with covariance F F^T, (K, D, D) float64, also for a covariance that is singular."""
    values, vectors = torch.linalg.eigh(covariances)
    return vectors * values.clamp_min(0).sqrt()[:, None, :]


def _finite(codes: Tensor) -> Tensor:
    if not torch.isfinite(codes).all():
        raise AebenchError("the codes of the training images are not finite")
    return codes


@hookimpl
def aebench_samplers() -> list[SamplerRecord]:
    return [
        SamplerRecord(
            name="prior",
            title="Own prior",
            summary="the prior that the model itself declares",
            fit=own_prior,
            requires=frozenset({Capability.SAMPLE}),
        ),
        SamplerRecord(
            name="gaussian",
            title="Gaussian",
            summary="a Gaussian with the codes' mean and full covariance",
            source="Ghosh et al. 2020",
            fit=gaussian,
        ),
        SamplerRecord(
            name="gmm",
            title="Gaussian mixture",
            summary=f"{COMPONENTS} Gaussians, fitted to the codes by expectation maximisation",
            source="Ghosh et al. 2020",
            fit=gaussian_mixture,
        ),
    ]
