"""A user's own images: a folder of files, or arrays in an .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aebench.contracts import Params, RawImages
from aebench.errors import AebenchError


class FolderParams(Params):
    """A folder of images, resized to squares of `size` pixels; subfolders, if there are any, are the classes."""

    path: str
    size: int = Field(default=32, gt=1)
    color: bool = False


def load_folder(params: FolderParams, data_dir: Path) -> RawImages:
    """Read all images of a folder; raises an AebenchError if there are none or one cannot be read."""
    from PIL import Image, UnidentifiedImageError

    root = Path(params.path).expanduser()
    if not root.is_dir():
        raise AebenchError(f"{root} is not a folder of images")
    classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and _image_files(entry))
    labelled = [(file, i) for i, name in enumerate(classes) for file in _image_files(root / name)]
    files = labelled or [(file, 0) for file in _image_files(root)]
    if not files:
        raise AebenchError(f"{root} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))}) and no folders of images")
    images = []
    for file, _ in files:
        try:
            with Image.open(file) as image:
                square = image.convert("RGB" if params.color else "L").resize((params.size, params.size))
        except (UnidentifiedImageError, OSError) as error:
            raise AebenchError(f"{file} cannot be read as an image: {error}") from error
        images.append(np.atleast_3d(np.asarray(square)))
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for _, label in files]) if labelled else None
    return RawImages(pixels, labels, classes=tuple(classes))


IMAGE_SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGE_SUFFIXES)


class ArrayParams(Params):
    """An .npz file with `x` (N, H, W) or (N, H, W, C), uint8 or float in [0, 1], and optionally `y` (N,)."""

    path: str


def load_npz(params: ArrayParams, data_dir: Path) -> RawImages:
    """Read the arrays of a file; raises an AebenchError if they are missing or not images."""
    path = Path(params.path).expanduser()
    try:
        loaded = np.load(path, allow_pickle=False)
        if not isinstance(loaded, np.lib.npyio.NpzFile):
            raise AebenchError(f"{path} is a single array; save it with np.savez(path, x=array)")
        with loaded as file:
            arrays = {name: file[name] for name in ("x", "y") if name in file.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise AebenchError(f"{path} cannot be read as an .npz file: {error}") from error
    if "x" not in arrays:
        raise AebenchError(f"{path} has no array 'x'; it needs x (N, H, W) or (N, H, W, C) and may have y (N,)")
    images = _pixels(path, arrays["x"])
    if "y" not in arrays:
        return RawImages(images)
    if arrays["y"].ndim != 1:
        raise AebenchError(f"{path}: y must be (N,), got shape {arrays['y'].shape}")
    names, labels = np.unique(arrays["y"], return_inverse=True)
    return RawImages(images, torch.from_numpy(labels.astype(np.int64)), classes=tuple(str(name) for name in names))


def _pixels(path: Path, x: np.ndarray[Any, Any]) -> Tensor:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise AebenchError(f"{path}: x must be (N, H, W) or (N, H, W, C) with 1 or 3 channels, got shape {x.shape}")
    if not x.size:
        raise AebenchError(f"{path}: x is empty, its shape is {x.shape}")
    if np.issubdtype(x.dtype, np.floating):
        if not np.isfinite(x).all():
            raise AebenchError(f"{path}: floating-point x must lie in [0, 1], but has NaN or infinite values")
        if x.min() < 0 or x.max() > 1:
            raise AebenchError(
                f"{path}: floating-point x must lie in [0, 1], which the likelihoods need, but lies in "
                f"[{x.min():.6g}, {x.max():.6g}]; rescale it"
            )
        x = np.rint(x * 255).astype(np.uint8)
    if x.dtype != np.uint8:
        raise AebenchError(f"{path}: x must be uint8, or floating point in [0, 1], got {x.dtype}")
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
