"""The masked autoencoder: a small vision transformer sees a random quarter of an image in training."""

from __future__ import annotations

from math import ceil

import torch
from pydantic import Field
from torch import Generator, Tensor, nn
from torch.nn import functional

from aebench.contracts import Autoencoder, AutoencoderRecord, Loss, ModelSpec, Params, hookimpl

PATCHES_PER_SIDE = 8  # of the longer side of an image, about
WIDTH, DECODER_WIDTH, HEAD_WIDTH = 64, 32, 16  # of the tokens, and of a head of attention


class MaskedParams(Params):
    """Share of the patches that the encoder does not see in training (He et al. 2022, figure 5)."""

    mask_ratio: float = Field(default=0.75, ge=0, lt=1)


class Masked(Autoencoder):
    """Encodes the visible patches of an image, and decodes all patches from one narrow code (after He et al. 2022).

    In evaluation all patches are visible. The code is the mean of the encoded patches, projected to latent_dim.

    This is not the model of the paper, whose decoder also gets the encoded patches themselves: they are no code of
    width latent_dim. Here the decoder gets only the code, projected to a token for each patch, so that the model is
    comparable with the others. So a visible patch is no easier to decode than a masked one, and the loss covers the
    whole image, where the paper's covers masked patches. On digits this gives better reconstructions and probes.
    """

    positions: Tensor

    def __init__(self, spec: ModelSpec) -> None:
        super().__init__(spec)
        channels, height, width = spec.input_shape
        self.patch = max(2, round(max(height, width) / PATCHES_PER_SIDE))
        self.grid = ceil(height / self.patch), ceil(width / self.patch)
        patches, pixels = self.grid[0] * self.grid[1], channels * self.patch**2
        self.visible = max(1, round((1 - spec.params.mask_ratio) * patches))
        self.register_buffer("positions", sine_cosine_positions(*self.grid, WIDTH))
        self.embed_patches = nn.Linear(pixels, WIDTH)
        self.encoder = _transformer(WIDTH, blocks=2)
        self.to_code = nn.Linear(WIDTH, spec.latent_dim)
        self.from_code = nn.Linear(spec.latent_dim, patches * DECODER_WIDTH)  # its bias stands for the positions
        self.decoder = _transformer(DECODER_WIDTH, blocks=1)
        self.to_pixels = nn.Linear(DECODER_WIDTH, pixels)

    def tokens(self, x: Tensor) -> Tensor:
        """All patches, with their positions: (B, C, H, W) -> (B, patches, WIDTH); zeros fill incomplete patches."""
        missing = [cells * self.patch - pixels for cells, pixels in zip(self.grid, x.shape[2:], strict=True)]
        patches = cut(functional.pad(x, (0, missing[1], 0, missing[0])), self.grid, self.patch)
        return self.embed_patches(patches) + self.positions

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Any number of patches -> the code: (B, n, WIDTH) -> (B, latent_dim)."""
        code: Tensor = self.to_code(self.encoder(tokens).mean(dim=1))
        return code

    def encode(self, x: Tensor) -> Tensor:
        return self.encode_tokens(self.tokens(x))

    def decode(self, z: Tensor) -> Tensor:
        tokens = self.from_code(z).unflatten(1, (-1, DECODER_WIDTH))
        images = join(self.to_pixels(self.decoder(tokens)), self.grid, self.patch)
        return images[:, :, : self.input_shape[1], : self.input_shape[2]]

    def loss(self, x: Tensor, generator: Generator) -> Loss:
        """Reconstruction of whole images x (B, C, H, W) from their visible patches, in nats per image."""
        tokens = self.tokens(x)
        kept = torch.rand(tokens.shape[:2], device=x.device, generator=generator).argsort(dim=1)[:, : self.visible]
        z = self.encode_tokens(tokens.gather(1, kept[:, :, None].expand(-1, -1, WIDTH)))
        reconstruction = self.likelihood.mean_nll(self.decode(z), x)
        return Loss(reconstruction, reconstruction, reconstruction.new_zeros(()))


def cut(images: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Images as patches, row by row: (B, C, rows * size, columns * size) -> (B, rows * columns, C * size * size)."""
    cells = images.unflatten(3, (grid[1], size)).unflatten(2, (grid[0], size))  # (B, C, row, y, column, x)
    return cells.permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)


def join(patches: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """The inverse of `cut`: (B, rows * columns, C * size * size) -> (B, C, rows * size, columns * size)."""
    cells = patches.unflatten(2, (-1, size, size)).unflatten(1, grid)  # (B, row, column, C, y, x)
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)


def sine_cosine_positions(rows: int, columns: int, width: int) -> Tensor:
    """Fixed positions in a grid, half of the width for the row and half for the column: (rows * columns, width).

    Each half has sines and cosines with wavelengths from 2 pi up to 10000 * 2 pi (Vaswani et al. 2017, section 3.5).
    """
    frequencies = 10000 ** -(torch.arange(width // 4) / (width // 4))
    cells = torch.cartesian_prod(torch.arange(rows), torch.arange(columns))
    angles = [axis[:, None] * frequencies for axis in cells.float().T]
    return torch.cat([wave(angle) for angle in angles for wave in (torch.sin, torch.cos)], dim=1)


def _transformer(width: int, blocks: int) -> nn.Sequential:
    heads, hidden = width // HEAD_WIDTH, 4 * width
    layers = [
        nn.TransformerEncoderLayer(width, heads, hidden, 0.0, "gelu", batch_first=True, norm_first=True)
        for _ in range(blocks)
    ]
    return nn.Sequential(*layers, nn.LayerNorm(width))


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [
        AutoencoderRecord(
            name="masked",
            title="Masked",
            summary="a small transformer, trained to reconstruct images from a quarter of their patches",
            source="He, Chen, Xie, Li, Dollár & Girshick 2022",
            params=MaskedParams,
            build=Masked,
            own_networks="a transformer, which can encode any part of the patches",
        )
    ]
