"""Arranges images for display: grids, and figures with labelled rows; names in figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


def caption(name: str, longest: int = 30) -> str:
    """The name of a class for a figure: on one line, shortened, and with dollars that do not begin a formula."""
    line = " ".join(name.split())
    return (line if len(line) <= longest else f"{line[: longest - 1]}…").replace("$", r"\$")


def to_pixels(images: Tensor) -> Pixels:
    """(N, C, H, W) in [0, 1] -> (N, H, W) or (N, H, W, 3) uint8."""
    pixels = (images * 255).round().byte().cpu().numpy()
    return pixels[:, 0] if pixels.shape[1] == 1 else pixels.transpose(0, 2, 3, 1)


def grid(images: Tensor, columns: int, gap: int = 2, smallest: int = 64) -> Pixels:
    """Images (N, C, H, W) in [0, 1], row by row on a grey background; each at least `smallest` pixels wide: uint8."""
    pixels = enlarge(to_pixels(images), smallest)
    height, width = pixels.shape[1:3]
    rows = -(-len(pixels) // columns)
    canvas = np.full(
        (rows * (height + gap) - gap, columns * (width + gap) - gap, *pixels.shape[3:]), 128, dtype=np.uint8
    )
    for i, image in enumerate(pixels):
        top, left = i // columns * (height + gap), i % columns * (width + gap)
        canvas[top : top + height, left : left + width] = image
    return canvas


def enlarge(pixels: Pixels, smallest: int) -> Pixels:
    """Repeats pixels (N, H, W, ...) by the smallest whole factor that makes the width at least `smallest`."""
    factor = max(1, -(-smallest // pixels.shape[2]))
    return pixels.repeat(factor, axis=1).repeat(factor, axis=2)


def labelled_rows(rows: Sequence[tuple[str, Tensor]]) -> Figure:
    """A figure with one row for each pair of a label and images (N, C, H, W) in [0, 1]."""
    from matplotlib.figure import Figure

    columns = max(len(images) for _, images in rows)
    figure = Figure(figsize=(0.62 * columns + 1.6, 0.66 * len(rows) + 0.1), layout="constrained")
    for axes, (label, images) in zip(figure.subplots(len(rows), 1, squeeze=False)[:, 0], rows, strict=True):
        axes.imshow(grid(images, columns), cmap="gray", vmin=0, vmax=255)
        axes.set_ylabel(label, rotation=0, ha="right", va="center", fontsize=9)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
    return figure
