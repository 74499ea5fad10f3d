"""Checks what plugins return before it is used: the evaluation of a task, the tensors of a model."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aebench.contracts import Animation, Autoencoder, Evaluation, ImageDataset, Table, TaskRecord
from aebench.errors import AebenchError

CHECKED_IMAGES = 3
LARGEST_METRIC = 1e100


def checked_metrics(task: TaskRecord, evaluation: Any) -> dict[str, float]:
    """The metrics of a valid evaluation as floats.

    Raises:
        AebenchError: it is no Evaluation, has other metrics than the task declares, or a value, a picture or a table
            of a wrong type, or one whose name cannot be a file name.
    """
    who = f"task '{task.name}'"
    if not isinstance(evaluation, Evaluation):
        raise AebenchError(f"{who} returned {_described(evaluation)}, an Evaluation is expected")
    for field in ("metrics", "images", "figures", "tables", "absent"):
        if not isinstance(getattr(evaluation, field), Mapping):
            raise AebenchError(
                f"{who} returned {_described(getattr(evaluation, field))} as {field}, a mapping from names is expected"
            )
    for name in (*evaluation.images, *evaluation.figures, *evaluation.tables):
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", name):
            raise AebenchError(f"{who} returned a file named {name!r}; use at most 100 letters, digits, '_' and '-'")
    declared = sorted(metric.name for metric in task.metrics)
    returned = sorted(map(str, (*evaluation.metrics, *evaluation.absent)))
    if declared != returned:
        raise AebenchError(f"{who} declares the metrics {declared} but returned {returned}")
    _check_pictures(who, evaluation)
    return {name: _number(f"{who} returned", name, value) for name, value in evaluation.metrics.items()}


def _number(who: str, name: str, value: Any) -> float:
    """A Python, NumPy or PyTorch number as a float; infinity beyond what statistics can square and add."""
    is_number = isinstance(value, int | float | np.integer | np.floating | np.bool_)
    is_scalar = isinstance(value, Tensor | np.ndarray) and tuple(value.shape) == () and not _is_complex(value)
    if not is_number and not is_scalar:
        raise AebenchError(f"{who} {_described(value)} as the metric '{name}', a number is expected")
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise AebenchError(f"{who} {_described(value)} as the metric '{name}', a number is expected") from error
    return math.copysign(math.inf, number) if abs(number) > LARGEST_METRIC else number


def _is_complex(value: Any) -> bool:
    return "complex" in str(value.dtype)


def _check_pictures(who: str, evaluation: Evaluation) -> None:
    for name, image in evaluation.images.items():
        is_animation = isinstance(image, Animation)
        _check_image(f"{who} returned", name, image.frames if isinstance(image, Animation) else image, is_animation)
    pictures = sys.modules.get("matplotlib.figure")
    for name, figure in evaluation.figures.items():
        if pictures is None or not isinstance(figure, pictures.Figure):
            raise AebenchError(f"{who} returned {_described(figure)} as the figure '{name}', a Figure is expected")
    for name, table in evaluation.tables.items():
        if not isinstance(table, Table):
            raise AebenchError(f"{who} returned {_described(table)} as the table '{name}', a Table is expected")
    for name, reason in evaluation.absent.items():
        if not isinstance(reason, str):
            raise AebenchError(f"{who} returned {_described(reason)} as the reason why '{name}' is absent, not a text")


def _check_image(who: str, name: str, image: Any, is_animation: bool) -> None:
    what, shapes = ("animation", "(T, H, W) or (T, H, W, 3)") if is_animation else ("image", "(H, W) or (H, W, 3)")
    axes = image.ndim - is_animation if isinstance(image, np.ndarray) else 0
    is_valid = (
        isinstance(image, np.ndarray)
        and image.dtype == np.uint8
        and image.size > 0
        and (axes == 2 or (axes == 3 and image.shape[-1] == 3))
    )
    if not is_valid:
        raise AebenchError(f"{who} {_described(image)} as the {what} '{name}', a uint8 array {shapes} is expected")


def check_model(who: str, model: Autoencoder, data: ImageDataset) -> None:
    """Check a trained model on a few images: the shapes of codes and images, and the range of the pixels.

    Args:
        who: the model and its plugin, for the message.
        model: trained, in evaluation mode, on the device of the data.
        data: the first images of its `test` split are used.

    Raises:
        AebenchError: `embed`, `decode` or `reconstruct` returns something else than the contract says.
    """
    x = data.test.x(slice(CHECKED_IMAGES))
    with torch.no_grad():
        codes = model.embed(x)
        _check_tensor(f"{who}: embed", codes, (len(x), model.latent_dim))
        _check_tensor(f"{who}: decode", model.decode(codes), tuple(x.shape))
        images = model.reconstruct(x)
    _check_tensor(f"{who}: reconstruct", images, tuple(x.shape))
    lowest, highest = float(images.min()), float(images.max())
    if not (lowest >= 0 and highest <= 1):  # also true of NaN
        raise AebenchError(
            f"{who}: reconstruct returned images with pixels from {lowest:g} to {highest:g}, "
            "numbers in [0, 1] are expected"
        )


def _check_tensor(who: str, value: Any, shape: tuple[int, ...]) -> None:
    if not isinstance(value, Tensor) or tuple(value.shape) != shape or not value.is_floating_point():
        raise AebenchError(f"{who} returned {_described(value)}, a float tensor of shape {shape} is expected")


def _described(value: Any) -> str:
    """What kind of value this is, in a few words."""
    if isinstance(value, Tensor | np.ndarray):
        kind = "a tensor" if isinstance(value, Tensor) else "an array"
        return f"{kind} of shape {tuple(value.shape)} and type {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, str):
        return f"the text {value[:40]!r}"
    return "None" if value is None else f"a value of type {type(value).__name__}"
