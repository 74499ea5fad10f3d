"""The model: an encoder, a bottleneck and a decoder behind one small surface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.errors import AebenchError


@dataclass(frozen=True)
class Code:
    """What a bottleneck makes of the encoder's output.

    Attributes:
        z: the latent code, (B, latent_dim) float32.
        penalty: what the code costs, a scalar in nats per image; zero for a bottleneck without a price.
    """

    z: Tensor
    penalty: Tensor


@dataclass(frozen=True)
class Loss:
    """A training objective in its parts, scalars in nats per image; `total` is the one that is minimised."""

    total: Tensor
    reconstruction: Tensor
    penalty: Tensor


StageLoss = Callable[[Tensor, Generator], Loss]


@dataclass(frozen=True)
class Stage:
    """One stretch of training: which modules learn, from which loss, for how long.

    The modules in `trains` are in training mode and receive gradients. Every other part of the model is frozen
    for the stage: evaluation mode, no gradients, batch-norm statistics untouched.

    Attributes:
        name: shown in the progress display.
        epochs: passes over the training images.
        loss: (x, generator) -> Loss, with x (B, *input_shape) float32 in [0, 1].
        trains: the modules whose parameters and buffers may change.
    """

    name: str
    epochs: int
    loss: StageLoss
    trains: tuple[nn.Module, ...]


def binary_cross_entropy(logits: Tensor, x: Tensor) -> Tensor:
    """Bernoulli negative log-likelihood of each image, summed over its pixels.

    Args:
        logits: (B, *input_shape) float, before the sigmoid.
        x: the target, same shape, in [0, 1].

    Returns:
        (B,) in nats per image.
    """
    pixels = functional.binary_cross_entropy_with_logits(logits.float(), x, reduction="none")
    return pixels.flatten(1).sum(dim=1)


class Autoencoder(nn.Module):
    """The base of every model: `decode(bottleneck(encode(x)).z)`.

    As it stands it is the plain (deep) autoencoder: an identity bottleneck, trained end to end. A variant overrides
    the one method in which it differs, usually `bottleneck`. Randomness is always an argument: a method draws from
    the generator it is given, and only when `stochastic` asks for it.

    A training step has to stay a pure function of parameters, buffers, batch and noise: no Python that depends on
    values, no `.item()`, no count in an attribute. On CUDA it is recorded in a graph after its first calls, and from
    then on replayed without its Python; a schedule belongs into a buffer that changes in place, or into
    stages.

    Args:
        input_shape: (C, H, W) of one image.
        latent_dim: width of the code z.
        encoder: (B, C, H, W) -> (B, H'), any width the bottleneck understands.
        decoder: (B, latent_dim) -> logits (B, C, H, W).
    """

    def __init__(
        self,
        input_shape: Sequence[int],
        latent_dim: int,
        encoder: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.latent_dim = latent_dim
        self.encoder = encoder if encoder is not None else nn.Identity()
        self.decoder = decoder if decoder is not None else nn.Identity()

    def encode(self, x: Tensor) -> Tensor:
        """Encoder output before the bottleneck: (B, *input_shape) in [0, 1] -> (B, H')."""
        h: Tensor = self.encoder(x)
        return h

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        """Encoder output (B, H') -> Code. The identity at no cost unless a variant says otherwise."""
        return Code(h, h.new_zeros(()))

    def decode(self, z: Tensor) -> Tensor:
        """Code (B, latent_dim) -> logits (B, *input_shape)."""
        logits: Tensor = self.decoder(z)
        return logits

    def corrupt(self, x: Tensor, generator: Generator) -> Tensor:
        """What the encoder sees in training instead of x; the target stays x. The identity by default."""
        return x

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """Training objective for x (B, *input_shape) in [0, 1]: mean BCE plus the bottleneck's penalty."""
        # Around a training in reduced precision the bottleneck still gets float32, for its logarithms' sake.
        h = self.encode(self.corrupt(x, generator)).float()
        code = self.bottleneck(h, stochastic=True, generator=generator)
        # The sum over everything is one pass over the pixels, where a sum for each image takes two.
        logits = self.decode(code.z).float()
        reconstruction = functional.binary_cross_entropy_with_logits(logits, x, reduction="sum") / len(x)
        return Loss(reconstruction + code.penalty, reconstruction, code.penalty)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """How a budget of `epochs` is spent; one end-to-end stage by default."""
        return (Stage("end to end", epochs, self.loss, (self,)),)

    def embed(self, x: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Tensor:
        """Latent codes: (B, *input_shape) in [0, 1] -> (B, latent_dim)."""
        return self.bottleneck(self.encode(x), stochastic, generator).z

    def reconstruct_logits(self, x: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Tensor:
        """Reconstructions before the sigmoid: (B, *input_shape) in [0, 1] -> logits of the same shape."""
        return self.decode(self.embed(x, stochastic, generator))

    def reconstruct(self, x: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Tensor:
        """Reconstructions: (B, *input_shape) in [0, 1] -> the same shape, in [0, 1]."""
        return torch.sigmoid(self.reconstruct_logits(x, stochastic, generator))

    def forward(self, x: Tensor) -> Tensor:
        """The deterministic reconstruction, so that a loaded model can simply be called."""
        return self.reconstruct(x)

    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Images on the straight line between two codes.

        Args:
            start: (B, *input_shape) in [0, 1].
            end: the same shape.
            steps: points on the line, both ends included.

        Returns:
            (B, steps, *input_shape) in [0, 1].
        """
        path = straight_line(self.embed(start), self.embed(end), steps)
        return torch.sigmoid(self.decode(path.flatten(0, 1))).unflatten(0, path.shape[:2])

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Draw n images from the prior: (n, *input_shape) in [0, 1]; needs the capability "sample".

        Raises:
            AebenchError: this model has no prior.
        """
        raise AebenchError(f"{type(self).__name__} has no prior to sample from")


def straight_line(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Linear interpolation between rows: (B, D), (B, D) -> (B, steps, D), both ends included."""
    weight = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[None, :, None]
    return torch.lerp(start[:, None, :], end[:, None, :], weight)


@runtime_checkable
class SelfFitting(Protocol):
    """A model that is not trained by gradients (PCA, say) brings this method, and its stages are not used.

    What it learns goes into buffers that `build` has given their final shapes, so that it can be saved and loaded.
    """

    def fit(self, images: Tensor, generator: Generator) -> None:
        """Fit to all training images at once: (N, *input_shape) uint8 in 0..255, on the model's device."""
