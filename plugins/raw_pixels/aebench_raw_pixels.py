"""Raw pixels: a baseline whose code is the image itself."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import torch
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, ModelSpec, Stage, hookimpl, to_unit_interval

STORED_IMAGES = 4096  # to sample from


class RawPixels(Autoencoder):
    """The code is the image, of any `latent_dim`; samples are training images.

    Its reconstruction is perfect, its samples are real images, its interpolation is linear in the pixels, and its
    classification is that of a linear classifier of pixels.
    """

    stored_images: Tensor
    stored_count: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(replace(spec, latent_dim=prod(spec.input_shape)))
        self.register_buffer("stored_images", torch.zeros(STORED_IMAGES, *spec.input_shape, dtype=torch.uint8))
        self.register_buffer("stored_count", torch.tensor(1))

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return (Stage("stored images", fit=self._fit),)

    def _fit(self, images: Tensor, generator: Generator) -> None:
        """Store a random subset of images (N, C, H, W) uint8."""
        chosen = torch.randperm(len(images), generator=generator, device=generator.device)[:STORED_IMAGES]
        self.stored_images[: len(chosen)] = images.index_select(0, chosen)
        self.stored_count.fill_(len(chosen))

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return self.likelihood.from_mean(z).unflatten(1, self.input_shape)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n of the stored images, as evenly as possible: (n, C, H, W) in [0, 1]."""
        count = int(self.stored_count)
        rounds = [torch.randperm(count, generator=generator, device=generator.device) for _ in range(-(-n // count))]
        return to_unit_interval(self.stored_images[torch.cat(rounds)[:n]])


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="raw_pixels",
            title="Raw pixels",
            summary="the image itself as its code",
            own_networks="the code is the image",
            build=RawPixels,
            capabilities=frozenset({Capability.SAMPLE}),
            baseline=True,
        )
    ]
