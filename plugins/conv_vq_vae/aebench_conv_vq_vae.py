"""The convolutional VQ-VAE: the code is a grid of codewords from one shared codebook."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import ceil, isqrt, log2

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
    Stage,
    hookimpl,
    straight_line,
    to_unit_interval,
)

WIDTH = 32  # channels of the convolutions
RARE = 0.03  # mean number of uses in a batch, below which a codeword is replaced


class ConvVQParams(Params):
    """Codewords, numbers in each, weight beta of the commitment loss, and decay of the averages that move codewords."""

    codebook_size: int = Field(default=512, gt=1)
    codeword_dim: int = Field(default=4, gt=0)
    beta: float = Field(default=0.25, ge=0)
    decay: float = Field(default=0.99, gt=0, lt=1)


class ConvVQVAE(Autoencoder):
    """Encodes an image as a grid of vectors, and replaces each by the nearest codeword (van den Oord et al. 2017).

    The grid has at most spec.latent_dim cells, whatever the size of the image: 20 are 4 x 5 cells of a square image,
    and 2 are its left and right half. So the code is latent_dim choices among 512 codewords, 9 bits each, as many as
    the code of `vq_vae`. `embed` gives the chosen codewords, flattened: `model.latent_dim` is codeword_dim * cells.
    """

    codebook: Tensor
    counts: Tensor
    sums: Tensor
    usage: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        params, (_, height, width) = spec.params, spec.input_shape
        rows = min(height, max(1, isqrt(spec.latent_dim * height // width)))
        columns = min(width, max(1, spec.latent_dim // rows))
        cells, size, dim = rows * columns, params.codebook_size, params.codeword_dim
        super().__init__(replace(spec, latent_dim=dim * cells), *_networks(spec, (rows, columns)))
        self.cells, self.beta, self.decay = cells, params.beta, params.decay
        self.register_buffer("codebook", torch.randn(size, dim))
        self.register_buffer("counts", torch.zeros(size))  # moving averages: uses of a codeword in a batch,
        self.register_buffer("sums", torch.zeros(size, dim))  # and sums of the vectors that chose it
        self.register_buffer("usage", torch.ones(cells, size))  # uses of each codeword in each cell

    def stages(self, epochs: int) -> tuple[Stage, ...]:
        return *super().stages(epochs), Stage("usage of the codewords", fit=self._count_usage)

    def vectors(self, h: Tensor) -> Tensor:
        """The vectors of all cells of all images: (B, codeword_dim * cells) -> (B * cells, codeword_dim)."""
        return h.unflatten(1, (-1, self.cells)).transpose(1, 2).flatten(0, 1)

    def nearest(self, h: Tensor) -> Tensor:
        """Index of the codeword nearest to each vector: (B, codeword_dim * cells) -> (B, cells) int64.

        That is the codeword c with the least |v - c|^2 = |v|^2 + 2 (|c|^2 / 2 - v c): `cdist` is slower, because it
        also computes |v|^2 and roots.
        """
        vectors = self.vectors(h).float()
        half_squares = self.codebook.square().sum(dim=1) / 2
        # In place, because autocast leaves that in float32.
        differences = half_squares.repeat(vectors.shape[0], 1).addmm_(vectors, self.codebook.T, alpha=-1)
        return differences.argmin(dim=1).unflatten(0, (-1, self.cells))

    def look_up(self, indices: Tensor) -> Tensor:
        """Codewords by index: (B, cells) int64 -> (B, codeword_dim * cells)."""
        return self.codebook[indices].transpose(1, 2).flatten(1)

    def bottleneck(self, h: Tensor, stochastic: bool = False, generator: Generator | None = None) -> Code:
        """Vectors h -> codewords of the same shape, and the commitment loss (eq. 3). Gradients pass straight on."""
        indices = self.nearest(h.detach())
        quantised = self.look_up(indices)
        if self.training:
            self._move_codewords(self.vectors(h.detach()), indices.flatten(), generator)
        commitment = (h - quantised).square().sum(dim=1).mean()
        return Code(quantised + (h - h.detach()), self.beta * commitment)

    def _move_codewords(self, vectors: Tensor, indices: Tensor, generator: Generator | None) -> None:
        """Move each codeword to the mean of the vectors (N, D) that chose it, indices (N,) (appendix A.1).

        The mean is over recent batches, by moving averages. A rare codeword becomes a random vector of the batch, with
        the weight of one use (Dhariwal et al. 2020, section 3.1): in the first step, every codeword that is not used.
        """
        uses = torch.zeros_like(self.counts).index_add_(0, indices, torch.ones_like(vectors[:, 0]))
        self.counts.lerp_(uses, 1 - self.decay)
        self.sums.lerp_(torch.zeros_like(self.sums).index_add_(0, indices, vectors), 1 - self.decay)
        rare = self.counts < RARE
        chosen = torch.randint(len(vectors), rare.shape, generator=generator, device=rare.device)
        self.sums.copy_(torch.where(rare[:, None], vectors[chosen], self.sums))
        self.counts.masked_fill_(rare, 1.0)
        self.codebook.copy_(self.sums / self.counts[:, None])

    def interpolate(self, start: Tensor, end: Tensor, steps: int) -> Tensor:
        """Interpolates before the bottleneck: each point is a grid of codewords, which change one after another."""
        path = straight_line(self.encode(start), self.encode(end), steps)
        return self.decode_in_batches(self.bottleneck(path.flatten(0, 1)).z).unflatten(0, path.shape[:2])

    def _count_usage(self, images: Tensor, generator: Generator) -> None:
        self.usage.zero_()
        for batch in images.split(self.images_at_once):
            indices = self.nearest(self.encode(to_unit_interval(batch))).T
            self.usage.scatter_add_(1, indices, torch.ones_like(indices, dtype=torch.float32))

    def sample(self, n: int, generator: Generator) -> Tensor:
        """Each cell draws a codeword as often as in the training images: (n, C, H, W) in [0, 1].

        The cells are independent, where the paper fits an autoregressive prior to the grid.
        """
        return self.decode_in_batches(self.look_up(torch.multinomial(self.usage, n, True, generator=generator).T))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(4, channels)  # not of the batch: codewords must suit evaluation as they suit training


def _networks(spec: ModelSpec, grid: tuple[int, int]) -> tuple[nn.Module, nn.Module]:
    """Strided convolutions from images to `grid`, and back; images are resized so that halving them gives the grid."""
    (channels, *size), dim = spec.input_shape, spec.params.codeword_dim
    halvings = max(1, ceil(log2(max(pixels / cells for pixels, cells in zip(size, grid, strict=True)))))
    resized = grid[0] * 2**halvings, grid[1] * 2**halvings
    widths = [channels, *halvings * [WIDTH]]
    down = [nn.Sequential(nn.Conv2d(i, o, 4, 2, 1), _norm(o), nn.ReLU()) for i, o in pairwise(widths)]
    up = [nn.Sequential(_norm(i), nn.ReLU(), nn.ConvTranspose2d(i, o, 4, 2, 1)) for i, o in pairwise(widths[::-1])]
    first, last = nn.Upsample(resized, mode="bilinear"), nn.Upsample(tuple(size), mode="bilinear")
    encoder = nn.Sequential(first, *down, nn.Conv2d(WIDTH, dim, 3, padding=1), nn.Flatten())
    return encoder, nn.Sequential(nn.Unflatten(1, (dim, *grid)), nn.Conv2d(dim, WIDTH, 3, padding=1), *up, last)


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="conv_vq_vae",
            title="Conv VQ-VAE",
            summary="a grid of latent_dim codewords from one codebook, 9 bits each",
            source="van den Oord, Vinyals & Kavukcuoglu 2017",
            params=ConvVQParams,
            build=ConvVQVAE,
            capabilities=frozenset({Capability.SAMPLE}),
            own_networks="its code is a grid of codewords of four numbers each, a backbone's is flat",
        )
    ]
