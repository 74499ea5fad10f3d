"""The contractive autoencoder: the Jacobian of the code with respect to the image is penalised."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Generator, Tensor, nn

from aebench.contracts import Autoencoder, AutoencoderRecord, Code, Loss, ModelSpec, Params, hookimpl


class ContractiveParams(Params):
    """Weight lambda of the squared norm of the Jacobian, against the squared error of an image."""

    weight: float = Field(default=0.01, ge=0)


class Contractive(Autoencoder):
    """Penalises the squared Frobenius norm of the Jacobian of the code (Rifai et al. 2011, eq. 5), on any backbone.

    Each dimension of the code is normalised to mean 0 and variance 1. Otherwise the encoder could make the penalty
    vanish by scaling the code down while the decoder scales it up (Goodfellow, Bengio & Courville 2016, section 14.7).
    Rifai et al. prevent this by tying the weights of the two, which is possible only for one layer each.
    """

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.weight = spec.params.weight * spec.likelihood.nats_per_squared_error
        self.normalise = nn.BatchNorm1d(spec.latent_dim, affine=False)

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        """Encoder output h (B, latent_dim) -> the normalised code; `loss` adds the penalty, which needs the image."""
        return Code(self.normalise(h), h.new_zeros(()))

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """Reconstruction and lambda * ||J||^2, in nats per image, for x (B, C, H, W) in [0, 1].

        In evaluation mode J is the Jacobian of each image's code with respect to this image, averaged over the batch.
        In training mode batch norm makes every code depend on the whole batch. J is then the Jacobian of all codes
        with respect to all images, and its squared norm is divided by the number of images.
        """
        differentiable = torch.is_grad_enabled()
        with torch.enable_grad():  # the penalty of the validation loss needs gradients too
            images = x.detach().requires_grad_()
            z = self.bottleneck(self.encode(images).float()).z
            signs = torch.randn(z.shape, device=z.device, generator=generator).sign()
            penalty = self.weight * squared_jacobian_norm(z, images, signs, differentiable)
        reconstruction = self.likelihood.mean_nll(self.decode(z), x)
        return Loss(reconstruction + penalty, reconstruction, penalty)


def squared_jacobian_norm(z: Tensor, x: Tensor, signs: Tensor, differentiable: bool = True) -> Tensor:
    """Unbiased estimate of the squared Frobenius norm of dz/dx, per image, with one vector-Jacobian product.

    E |v J|^2 = trace(J J^T) for random signs v, because E v v^T is the identity (Hutchinson 1990).

    Args:
        z: codes (B, D), computed from x.
        x: images (B, C, H, W).
        signs: v, independent and -1 or 1 with equal probability, (B, D).
        differentiable: whether the result needs a gradient itself.

    Returns:
        a scalar: the estimate for the whole batch divided by B.
    """
    (product,) = torch.autograd.grad(z, x, signs, create_graph=differentiable)
    return product.square().sum() / len(x)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="contractive",
            title="Contractive",
            summary="penalises the Jacobian of the code, which is normalised to unit variance",
            source="Rifai, Vincent, Muller, Glorot & Bengio 2011",
            params=ContractiveParams,
            build=Contractive,
        )
    ]
