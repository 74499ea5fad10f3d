"""How decoded values stand for an image: the distribution of its pixels, which gives the reconstruction error."""

from __future__ import annotations

from abc import abstractmethod
from math import log, pi
from typing import Annotated, Literal

import torch
from pydantic import BeforeValidator, Field
from torch import Tensor
from torch.nn import functional

from aebench.contracts.settings import Settings, by_name
from aebench.errors import AebenchError


class Likelihood(Settings):
    """The distribution of an image given the decoder's output; pixels are independent.

    The benchmark's is `Bernoulli` or `Gaussian`.
    """

    @abstractmethod
    def mean(self, decoded: Tensor) -> Tensor:
        """The decoder's output as images in [0, 1], of the same shape: (..., C, H, W) float32."""

    @abstractmethod
    def from_mean(self, images: Tensor, margin: float = 1e-6) -> Tensor:
        """The decoder's output whose `mean` is `images` (..., C, H, W); finite for images in [0, 1].

        Args:
            images: the means.
            margin: how far a mean keeps away from 0 and 1 where the decoder's output would otherwise be infinite.
        """

    @abstractmethod
    def _pixels(self, decoded: Tensor, x: Tensor, reduction: str) -> Tensor:
        """The part of the negative log-likelihood that depends on the pixels: for each of them, or "sum" over all."""

    @property
    @abstractmethod
    def _constant(self) -> float:
        """The rest of it, in nats per pixel."""

    @property
    @abstractmethod
    def nats_per_squared_error(self) -> float:
        """What a squared error of 1, summed over the pixels of an image, costs at least, in nats per image.

        A weight from a paper that minimises squared errors is multiplied by it.
        """

    def nll(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Negative log-likelihood of each image, summed over its pixels.

        Args:
            decoded: the decoder's output (B, C, H, W) float.
            x: the images, same shape, float32 in [0, 1].

        Returns:
            (B,) float32 in nats per image; for a continuous distribution it can be negative.

        Raises:
            AebenchError: the shapes differ.
        """
        _check_shapes(decoded, x)
        pixels = self._pixels(decoded.float(), x, "none").flatten(1)
        return pixels.sum(dim=1) + self._constant * pixels.shape[1]

    def mean_nll(self, decoded: Tensor, x: Tensor) -> Tensor:
        """The mean of `nll` over the batch, a scalar: one pass over the pixels, where a sum for each image is two.

        Raises:
            AebenchError: the shapes differ.
        """
        _check_shapes(decoded, x)
        total = self._pixels(decoded.float(), x, "sum")
        return total / len(x) + self._constant * (x.numel() // len(x))


def _check_shapes(decoded: Tensor, x: Tensor) -> None:
    # PyTorch would repeat the smaller one, and the loss would be that of other images.
    if decoded.shape != x.shape:
        raise AebenchError(
            f"the decoder returned a tensor of shape {tuple(decoded.shape)} for images of shape {tuple(x.shape)}; "
            "the shapes must be equal"
        )


class Bernoulli(Likelihood):
    """Each pixel is Bernoulli, its logit decoded: the binary cross-entropy, for images that are nearly black and white.

    For grey pixels it is a cross-entropy and no density; its minimum, at a perfect reconstruction, is above 0.
    """

    name: Literal["bernoulli"] = "bernoulli"

    def mean(self, decoded: Tensor) -> Tensor:
        return torch.sigmoid(decoded)

    def from_mean(self, images: Tensor, margin: float = 1e-6) -> Tensor:
        return torch.logit(images, eps=margin)

    def _pixels(self, decoded: Tensor, x: Tensor, reduction: str) -> Tensor:
        return functional.binary_cross_entropy_with_logits(decoded, x, reduction=reduction)

    @property
    def nats_per_squared_error(self) -> float:
        return 2.0  # Pinsker's inequality; exact for a small error of a pixel of 0.5

    @property
    def _constant(self) -> float:
        return 0.0


class Gaussian(Likelihood):
    """Each pixel is normal, its mean decoded: squared errors, for natural images.

    Attributes:
        sigma: standard deviation of every pixel, for pixels in [0, 1], the same for all models. It weighs the
            reconstruction against a model's penalty. The best value is the root mean squared error itself (Rybkin,
            Daniilidis & Levine 2021), which for small codes of natural images is of the order of 0.1.
    """

    name: Literal["gaussian"] = "gaussian"
    sigma: float = Field(default=0.1, ge=1e-3, le=1000)

    def mean(self, decoded: Tensor) -> Tensor:
        return decoded.clamp(0, 1)

    def from_mean(self, images: Tensor, margin: float = 1e-6) -> Tensor:
        return images

    def _pixels(self, decoded: Tensor, x: Tensor, reduction: str) -> Tensor:
        return functional.mse_loss(decoded, x, reduction=reduction) / (2 * self.sigma**2)

    @property
    def nats_per_squared_error(self) -> float:
        return 1 / (2 * self.sigma**2)

    @property
    def _constant(self) -> float:
        return log(self.sigma) + log(2 * pi) / 2


ChosenLikelihood = Annotated[
    Annotated[Bernoulli | Gaussian, Field(discriminator="name")],
    BeforeValidator(by_name),
]


def default_likelihood(input_shape: tuple[int, int, int]) -> Likelihood:
    """Bernoulli for images (C, H, W) of one channel, Gaussian for those of several."""
    return Bernoulli() if input_shape[0] == 1 else Gaussian()
