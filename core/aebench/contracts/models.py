"""The model: an encoder, a bottleneck and a decoder, and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn

from aebench.contracts.backbones import BackboneRecord
from aebench.contracts.data import IMAGES_AT_ONCE
from aebench.contracts.likelihoods import Likelihood
from aebench.contracts.stages import Loss, Stage, Update
from aebench.errors import AebenchError


@dataclass(frozen=True)
class Code:
    """The output of a bottleneck.

    Attributes:
        z: the latent code, (B, latent_dim) float32.
        penalty: the bottleneck's own loss, a scalar in nats per image; zero if it has none.
    """

    z: Tensor
    penalty: Tensor


@dataclass(frozen=True)
class ModelSpec:
    """What a model is built for.

    Attributes:
        input_shape: (C, H, W) of one image.
        latent_dim: width of the code z.
        params: the validated parameters of the record, an instance of `AutoencoderRecord.params`.
        backbone: where `encoder` and `decoder` come from; None for a model with networks of its own.
        likelihood: the benchmark's, which turns the decoder's output into images and reconstruction errors.
    """

    input_shape: tuple[int, int, int]
    latent_dim: int
    params: Any
    backbone: BackboneRecord | None
    likelihood: Likelihood

    def encoder(self, code_width: int) -> nn.Module:
        """A new encoder: (B, *input_shape) -> (B, code_width); a Gaussian posterior needs 2 * latent_dim.

        Raises:
            AebenchError: the record of the model says that it has networks of its own.
        """
        return self._chosen.encoder(self.input_shape, code_width)

    def decoder(self) -> nn.Module:
        """A new decoder: (B, latent_dim) -> (B, *input_shape), to be interpreted by the likelihood.

        Raises:
            AebenchError: the record of the model says that it has networks of its own.
        """
        return self._chosen.decoder(self.latent_dim, self.input_shape)

    @property
    def _chosen(self) -> BackboneRecord:
        if self.backbone is None:
            raise AebenchError("the model's record names own_networks, so the model gets no encoder and no decoder")
        return self.backbone


class Autoencoder(nn.Module):
    """The base class of every model: `decode(bottleneck(encode(x)).z)`.

    Without overrides it is the deep autoencoder: an identity bottleneck, trained end to end. A variant overrides the
    method in which it differs, usually `bottleneck`. Randomness is always an argument: a method draws from the
    generator it is given, and only if `stochastic` is true.

    A training step must be a pure function of parameters, buffers, batch and noise: no Python branch on values, no
    `.item()`, no counter in an attribute. On CUDA the step is recorded as a graph after its first calls; the graph is
    then replayed without running Python. A schedule belongs in `on_epoch`, which changes buffers in place.

    A method that needs gradients of its own, in training or in evaluation, computes them under `torch.enable_grad()`,
    because the caller may have switched them off.

    Args:
        spec: what it is built for.
        encoder: (B, C, H, W) -> (B, H'), any width that the bottleneck accepts; usually `spec.encoder(width)`.
        decoder: (B, latent_dim) -> (B, C, H, W), interpreted by `likelihood`; usually `spec.decoder()`.

    Attributes:
        images_at_once: the number of images or codes that an evaluation should give the model at most; fewer after
            it has run out of memory.
    """

    images_at_once: int = IMAGES_AT_ONCE

    def __init__(self, spec: ModelSpec, encoder: nn.Module | None = None, decoder: nn.Module | None = None) -> None:
        super().__init__()
        self.input_shape = spec.input_shape
        self.latent_dim = spec.latent_dim
        self.likelihood = spec.likelihood
        self.encoder = encoder if encoder is not None else nn.Identity()
        self.decoder = decoder if decoder is not None else nn.Identity()

    def encode(self, x: Tensor) -> Tensor:
        """Encoder output before the bottleneck: (B, *input_shape) in [0, 1] -> (B, H')."""
        h: Tensor = self.encoder(x)
        return h

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        """Encoder output (B, H') -> Code. By default the identity, without a penalty."""
        return Code(h, h.new_zeros(()))

    def decode(self, z: Tensor) -> Tensor:
        """Code (B, latent_dim) -> (B, *input_shape) float, interpreted by `likelihood`, such as logits of pixels."""
        decoded: Tensor = self.decoder(z)
        return decoded

    def decode_images(self, z: Tensor) -> Tensor:
        """Code (B, latent_dim) -> images (B, *input_shape) in [0, 1]."""
        return self.likelihood.mean(self.decode(z))

    def decode_in_batches(self, z: Tensor) -> Tensor:
        """`decode_images` for any number of codes, in an evaluation: `images_at_once` at a time."""
        return torch.cat([self.decode_images(batch) for batch in z.split(self.images_at_once)])

    def corrupt(self, x: Tensor, generator: Generator) -> Tensor:
        """The encoder's input in training, of the same shape as x; the target is x itself. By default the identity."""
        return x

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """The training loss for x (B, *input_shape) in [0, 1]: the likelihood's plus the bottleneck's penalty."""
        # The bottleneck gets float32 in every precision, because bfloat16 is too coarse for its logarithms.
        h = self.encode(self.corrupt(x, generator)).float()
        code = self.bottleneck(h, stochastic=True, generator=generator)
        reconstruction = self.likelihood.mean_nll(self.decode(code.z), x)
        return Loss(reconstruction + code.penalty, reconstruction, code.penalty)

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        """How a budget of `epochs` is divided; by default one end-to-end stage.

        The epochs of all stages together must not exceed `epochs`; a training whose stages ask for more fails.
        """
        return (Stage("end to end", epochs, (Update(self.loss, (self,)),)),)

    def on_epoch(self, epoch: int, epochs: int) -> None:
        """Called before each epoch, outside the recorded step: the place to change buffers in place by a schedule.

        Args:
            epoch: 0, 1, ... across all stages.
            epochs: of all stages together.
        """

    def embed(self, x: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Tensor:
        """Latent codes: (B, *input_shape) in [0, 1] -> (B, latent_dim)."""
        return self.bottleneck(self.encode(x), stochastic, generator).z

    def reconstruct(self, x: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Tensor:
        """Reconstructions: (B, *input_shape) in [0, 1] -> the same shape, in [0, 1]."""
        return self.decode_images(self.embed(x, stochastic, generator))

    def forward(self, x: Tensor) -> Tensor:
        """The deterministic reconstruction, for callers of a loaded model."""
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
        return self.decode_in_batches(path.flatten(0, 1)).unflatten(0, path.shape[:2])

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Draw n images from the prior: (n, *input_shape) in [0, 1]; requires the capability "sample".

        Raises:
            AebenchError: this model has no prior.
        """
        raise AebenchError(f"{type(self).__name__} has no prior to sample from")


def straight_line(start: Tensor, end: Tensor, steps: int) -> Tensor:
    """Linear interpolation between rows: (B, D), (B, D) -> (B, steps, D), both ends included."""
    weight = torch.linspace(0, 1, steps, device=start.device, dtype=start.dtype)[None, :, None]
    return torch.lerp(start[:, None, :], end[:, None, :], weight)
