"""Principal component analysis: the linear autoencoder with the least squared error, fitted in closed form."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import torch
from torch import Generator, Tensor, nn

from aebench.contracts import AebenchError, Autoencoder, AutoencoderRecord, ModelSpec, Stage, hookimpl, to_unit_interval

IMAGES_AT_ONCE = 1000  # in the fit
HALF_GREY_LEVEL = 1 / 510  # of 8-bit images; where logits are decoded, pixels keep this distance from 0 and 1


class PCA(Autoencoder):
    """Codes are the coordinates along the directions of largest variance (Hotelling 1933).

    Until it is fitted the directions are random and orthonormal. The directions and the mean are buffers; there are no
    parameters.

    Args:
        spec: its `latent_dim` is the number of components.

    Raises:
        AebenchError: an image has fewer pixels than the code has dimensions.
    """

    mean: Tensor
    components: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        pixels = prod(spec.input_shape)
        if spec.latent_dim > pixels:
            raise AebenchError(f"pca: {pixels} pixels have at most {pixels} components, not {spec.latent_dim}")
        self.register_buffer("mean", torch.zeros(pixels))
        self.register_buffer("components", nn.init.orthogonal_(torch.empty(spec.latent_dim, pixels)))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage("closed form", fit=self._fit),)

    def _fit(self, images: Tensor, generator: Generator) -> None:
        """Compute mean and leading components of images (N, C, H, W) uint8.

        Raises:
            AebenchError: there are fewer images than components.
        """
        if len(images) < self.latent_dim:
            raise AebenchError(f"pca: {len(images)} images have at most {len(images)} components")
        self.mean.zero_()
        for x in _pixels(images):
            self.mean += x.sum(dim=0) / len(images)
        scatter = torch.zeros(len(self.mean), len(self.mean), device=images.device)
        for x in _pixels(images):
            centred = x - self.mean
            scatter.addmm_(centred.T, centred)
        directions = torch.linalg.eigh(scatter).eigenvectors.T.flip(0)[: self.latent_dim]  # of largest variance first
        largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
        self.components.copy_(directions * largest.sign())

    def encode(self, x: Tensor) -> Tensor:
        return (x.flatten(1) - self.mean) @ self.components.T

    def decode(self, z: Tensor) -> Tensor:
        pixels = torch.addmm(self.mean, z, self.components)
        return self.likelihood.from_mean(pixels, HALF_GREY_LEVEL).unflatten(1, self.input_shape)


def _pixels(images: Tensor) -> Iterator[Tensor]:
    """Images (N, C, H, W) uint8, some at a time, since float32 takes four times the memory: (B, pixels) in [0, 1]."""
    for batch in images.split(IMAGES_AT_ONCE):
        yield to_unit_interval(batch).flatten(1)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="pca",
            title="PCA",
            summary="the best linear map, fitted in closed form",
            source="Hotelling 1933",
            own_networks="a linear map in closed form",
            build=PCA,
        )
    ]
