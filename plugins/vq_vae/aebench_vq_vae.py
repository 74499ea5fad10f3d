"""The vector-quantised autoencoder: each element of the code is replaced by the nearest value of its own codebook."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from aebench.contracts import (
    Autoencoder,
    AutoencoderRecord,
    Capability,
    Code,
    ModelSpec,
    Params,
    hookimpl,
    straight_line,
)


class VQParams(Params):
    """Values per codebook, and the weight beta of the commitment loss."""

    codebook_size: int = Field(default=512, gt=1)
    beta: float = Field(default=1.0, ge=0)


class VQVAE(Autoencoder):
    """Quantises each code element independently (van den Oord et al. 2017, eq. 3, with one dimension per vector).

    Codebook and commitment losses are squared errors, summed over elements and averaged over the batch; gradients
    pass straight through the quantisation. Samples draw each element uniformly from its codebook.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.beta = spec.params.beta
        bound = 1 / spec.params.codebook_size
        self.codebook = nn.Parameter(torch.empty(spec.latent_dim, spec.params.codebook_size).uniform_(-bound, bound))

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        quantised = nearest(self.codebook, h)
        codebook_loss = (quantised - h.detach()).square().sum(dim=1).mean()
        commitment_loss = (h - quantised.detach()).square().sum(dim=1).mean()
        z = quantised.detach() + (h - h.detach())  # the value of `quantised`, the gradient of h
        return Code(z, codebook_loss + self.beta * commitment_loss)

    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Interpolates before the bottleneck, so that each point is quantised: as `Autoencoder.interpolate`."""
        path = straight_line(self.encode(start), self.encode(end), steps)
        z = self.bottleneck(path.flatten(0, 1)).z
        return self.decode_in_batches(z).unflatten(0, path.shape[:2])

    def sample(self, n: int, generator: Generator) -> Tensor:
        dims, size = self.codebook.shape
        choice = torch.randint(size, (dims, n), device=self.codebook.device, generator=generator)
        return self.decode_in_batches(self.codebook.gather(1, choice).T)


def nearest(codebook: Tensor, h: Tensor) -> Tensor:
    """For each element h[b, j] the nearest of codebook[j]: (D, K), (B, D) -> (B, D), differentiable in the codebook.

    Finds each element's two neighbours in the sorted codebook by binary search, O(log K) instead of O(K).
    """
    values = codebook.sort(dim=1).values
    elements = h.detach().T.contiguous()
    right = torch.searchsorted(values.detach(), elements).clamp(1, values.shape[1] - 1)
    left_value, right_value = values.gather(1, right - 1), values.gather(1, right)
    closer_left = (elements - left_value).abs() <= (right_value - elements).abs()
    return torch.where(closer_left, left_value, right_value).T


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="vq_vae",
            title="VQ-VAE",
            summary="each code element is replaced by the nearest value of its own codebook",
            source="van den Oord, Vinyals & Kavukcuoglu 2017",
            params=VQParams,
            build=VQVAE,
            capabilities=frozenset({Capability.SAMPLE}),
        )
    ]
