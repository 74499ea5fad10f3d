"""The images themselves: what a code would be worth that were no code at all. A baseline, not a model."""

from __future__ import annotations

from math import prod

import torch
from torch import Generator, Tensor

from aebench.contracts import Autoencoder, AutoencoderRecord, Capability, Params, hookimpl, to_unit_interval

REMEMBERED = 4096  # images, to sample from
NEARLY_BLACK = 1e-6  # keeps the logits finite


class RawPixels(Autoencoder):
    """The code is the image, whatever `latent_dim` asks for; samples are training images.

    Its reconstruction is the best there can be, its samples are as near to test images as real ones are, its
    interpolation fades one image into the other, and its classification is that of a linear classifier on pixels.
    """

    memory: Tensor
    remembered: Tensor

    def __init__(self, input_shape: tuple[int, int, int], latent_dim: int, params: Params) -> None:
        super().__init__(input_shape, prod(input_shape))
        self.register_buffer("memory", torch.zeros(REMEMBERED, *input_shape, dtype=torch.uint8))
        self.register_buffer("remembered", torch.tensor(1))

    def fit(self, images: Tensor, generator: Generator) -> None:
        """Remember a random part of images (N, C, H, W) uint8."""
        chosen = torch.randperm(len(images), generator=generator, device=generator.device)[:REMEMBERED]
        self.memory[: len(chosen)] = images.index_select(0, chosen)
        self.remembered.fill_(len(chosen))

    def encode(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return torch.logit(z, eps=NEARLY_BLACK).unflatten(1, self.input_shape)

    def sample(self, n: int, generator: Generator) -> Tensor:
        """n of the remembered images, each once before any comes twice: (n, C, H, W) in [0, 1]."""
        known = int(self.remembered)
        rounds = [torch.randperm(known, generator=generator, device=generator.device) for _ in range(-(-n // known))]
        return to_unit_interval(self.memory[torch.cat(rounds)[:n]])


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="raw_pixels",
            title="Raw pixels",
            summary="the images themselves, no code at all",
            build=RawPixels,
            capabilities=frozenset({Capability.SAMPLE}),
            baseline=True,
        )
    ]
