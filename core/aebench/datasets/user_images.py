"""A user's own images: a folder of files, or arrays in an .npz file."""

from __future__ import annotations

import os
import zipfile
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aebench.contracts import Params, RawImages
from aebench.datasets.limits import LARGEST_SIDE, check_memory
from aebench.datasets.pictures import FORMATS, read_picture
from aebench.errors import AebenchError, one_line
from aebench.files import check_regular


class FolderParams(Params):
    """A folder of images, resized to squares of `size` pixels; subfolders, if there are any, are the classes."""

    path: str
    size: int = Field(default=32, gt=1, le=LARGEST_SIDE)
    color: bool = False


def load_folder(params: FolderParams, data_dir: Path) -> RawImages:
    """Read all images of a folder; raises an AebenchError if there are none, too many, or one cannot be read."""
    root = _user_path(params.path)
    if not os.path.isdir(root):
        raise AebenchError(f"{root} is not a folder of images")
    try:
        classes = sorted(entry.name for entry in root.iterdir() if entry.is_dir() and _image_files(entry))
        labelled = [(file, i) for i, name in enumerate(classes) for file in _image_files(root / name)]
        files = labelled or [(file, 0) for file in _image_files(root)]
    except OSError as error:
        raise AebenchError(f"{error.filename or root} cannot be read: {error.strerror}") from error
    if not files:
        raise AebenchError(f"{root} holds no images ({', '.join(sorted(FORMATS))}) and no folders of images")
    shape = (len(files), params.size, params.size, 3 if params.color else 1)
    check_memory(str(root), shape)
    pixels = np.empty(shape, np.uint8)
    for i, (file, _) in enumerate(files):
        pixels[i] = read_picture(file, params.size, params.color)
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor([label for _, label in files]) if labelled else None
    return RawImages(images, labels, classes=tuple(classes))


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in FORMATS)


def _user_path(text: str) -> Path:
    try:
        path = Path(text).expanduser()
        os.stat(path)  # a NUL character is a ValueError, a missing file is not for here
    except OSError:
        return path
    except (ValueError, RuntimeError) as error:
        raise AebenchError(f"{text} is not a path: {one_line(error)}") from error
    return path


class ArrayParams(Params):
    """An .npz file with `x` (N, H, W) or (N, H, W, C), uint8 or float in [0, 1], and optionally `y` (N,)."""

    path: str


def load_npz(params: ArrayParams, data_dir: Path) -> RawImages:
    """Read the arrays of a file; raises an AebenchError if they are missing, too large or not images."""
    path = _user_path(params.path)
    try:
        check_regular(path)
        if not zipfile.is_zipfile(path):
            raise ValueError("it is not an archive; np.savez(path, x=array) writes one")
        with zipfile.ZipFile(path) as archive:
            arrays = {
                name: _read_array(path, archive, name) for name in ("x", "y") if f"{name}.npy" in archive.namelist()
            }
    except AebenchError:
        raise
    except OSError as error:
        raise AebenchError(f"{path} cannot be read as an .npz file: {error.strerror or one_line(error)}") from error
    except Exception as error:  # zipfile and NumPy raise anything on a damaged file
        raise AebenchError(f"{path} cannot be read as an .npz file: {one_line(error)}") from error
    if "x" not in arrays:
        raise AebenchError(f"{path} has no array 'x'; it needs x (N, H, W) or (N, H, W, C) and may have y (N,)")
    images = _pixels(path, arrays["x"])
    if "y" not in arrays:
        return RawImages(images)
    labels, classes = _labels(path, arrays["y"], len(images))
    return RawImages(images, labels, classes=classes)


def _read_array(path: Path, archive: zipfile.ZipFile, name: str) -> np.ndarray[Any, Any]:
    """An array of the archive, after its header and its size have been checked; nothing is unpickled."""
    if archive.namelist().count(f"{name}.npy") > 1:
        raise AebenchError(f"{path}: there are several arrays {name}")
    member = archive.getinfo(f"{name}.npy")
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(file)
        start = file.tell()
    if dtype.hasobject:
        raise AebenchError(f"{path}: {name} holds Python objects, which are not unpickled; save numbers")
    check_memory(f"{path}: {name}", shape, dtype.itemsize)
    if start + prod(shape) * dtype.itemsize != member.file_size:
        raise AebenchError(
            f"{path}: {name} has {member.file_size - start} bytes, its header promises {prod(shape) * dtype.itemsize}"
        )
    with archive.open(member) as file:
        return np.lib.format.read_array(file, allow_pickle=False)


def _labels(path: Path, y: np.ndarray[Any, Any], images: int) -> tuple[Tensor, tuple[str, ...]]:
    """Labels (N,) int64 and the names of the classes: the distinct values of y in their order."""
    if y.ndim != 1:
        raise AebenchError(f"{path}: y must be (N,), got shape {y.shape}")
    if len(y) != images:
        raise AebenchError(f"{path}: y must have a label for each of the {images} images, got {len(y)}")
    if y.dtype.kind not in "biuU":
        raise AebenchError(f"{path}: y must be integers or text, got {y.dtype}")
    names, labels = np.unique(y, return_inverse=True)
    return torch.from_numpy(labels.astype(np.int64)), tuple(str(name) for name in names)


def _pixels(path: Path, x: np.ndarray[Any, Any]) -> Tensor:
    if x.ndim == 3:
        x = x[..., None]
    if x.ndim != 4 or x.shape[-1] not in (1, 3):
        raise AebenchError(f"{path}: x must be (N, H, W) or (N, H, W, C) with 1 or 3 channels, got shape {x.shape}")
    if not x.size:
        raise AebenchError(f"{path}: x is empty, its shape is {x.shape}")
    given = x.dtype
    if np.issubdtype(given, np.floating):
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
    if given == np.uint8 and x.max() == 1:
        raise AebenchError(f"{path}: x is uint8 and its largest value is 1, which is nearly black; multiply it by 255")
    return torch.from_numpy(x).permute(0, 3, 1, 2).contiguous()
