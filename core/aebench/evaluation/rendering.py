"""Renders what a task returns as files: PNG pictures, GIF animations and CSV tables."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from aebench.contracts import Animation, Evaluation, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def render(evaluation: Evaluation) -> dict[str, bytes]:
    """The content of every image, figure and table of an evaluation, by file name."""
    files = {}
    for name, image in evaluation.images.items():
        if isinstance(image, Animation):
            files[f"{name}.gif"] = _gif(image)
        else:
            files[f"{name}.png"] = _png(image)
    files |= {f"{name}.png": _figure(figure) for name, figure in evaluation.figures.items()}
    files |= {f"{name}.csv": _csv(table) for name, table in evaluation.tables.items()}
    return files


def _png(image: np.ndarray[Any, Any]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _gif(animation: Animation) -> bytes:
    first, *rest = [Image.fromarray(frame) for frame in animation.frames]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=rest, duration=animation.milliseconds, loop=0)
    return buffer.getvalue()


def _figure(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _csv(table: Table) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer).writerows([table.columns, *table.rows])
    return buffer.getvalue().encode()
