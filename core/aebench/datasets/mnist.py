"""MNIST, Fashion-MNIST and KMNIST: torchvision downloads them; their IDX files are checked before use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from aebench.contracts import Params, RawImages
from aebench.errors import AebenchError

# Published digests of the uncompressed files: a damaged file must not become a result.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_FILES = tuple(MNIST_MD5)


class TorchvisionParams(Params):
    """`padding`: zeros added on each side, in pixels; 2 turns 28x28 into the article's 32x32."""

    padding: int = Field(default=2, ge=0)


def torchvision_loader(class_name: str, md5: Mapping[str, str]) -> Callable[[Any, Path], RawImages]:
    """A loader for one of torchvision's data sets in MNIST's format.

    Args:
        class_name: of the data set in `torchvision.datasets`.
        md5: published digests by file name; empty where none are published.

    The loader raises an AebenchError if the files cannot be downloaded or are damaged.
    """

    def load(params: TorchvisionParams, data_dir: Path) -> RawImages:
        from torchvision import datasets

        dataset_class = getattr(datasets, class_name)
        folder = data_dir / class_name / "raw"
        _download(dataset_class, data_dir, folder)
        for file, digest in md5.items():
            if hashlib.md5((folder / file).read_bytes(), usedforsecurity=False).hexdigest() != digest:
                raise AebenchError(_corrupt(folder / file, "its MD5 digest is not the published one"))
        parts = []
        for part in ("train", "t10k"):
            images = _read_idx(folder / f"{part}-images-idx3-ubyte", 3)
            labels = _read_idx(folder / f"{part}-labels-idx1-ubyte", 1)
            parts.append((functional.pad(images[:, None], [params.padding] * 4), labels.long()))
        (images, labels), (test_images, test_labels) = parts
        return RawImages(
            images, labels, test_images, test_labels, tuple(name.partition(" - ")[0] for name in dataset_class.classes)
        )

    return load


def _download(dataset_class: Any, data_dir: Path, folder: Path) -> None:
    missing = [file for file in IDX_FILES if not (folder / file).is_file()]
    if not missing:
        return
    name = dataset_class.__name__
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink()
    except OSError as error:
        raise AebenchError(
            f"{name} is not in {data_dir}, and that directory cannot be written ({error.strerror}); "
            "choose another with --data-dir or AEBENCH_DATA_DIR"
        ) from error
    try:
        dataset_class(root=str(data_dir), download=True)
    except Exception as error:
        raise AebenchError(
            f"{name} could not be downloaded ({' '.join(str(error).split()) or type(error).__name__}); "
            f"without a network, put {', '.join(missing)} into {folder}, or run on 'digits', which needs no download"
        ) from error


def _read_idx(path: Path, dimensions: int) -> Tensor:
    """An IDX file of unsigned bytes: magic number, sizes as big-endian int32, then the bytes."""
    content = path.read_bytes()
    start = 4 + 4 * dimensions
    if len(content) < start or content[:4] != bytes([0, 0, 8, dimensions]):
        raise AebenchError(_corrupt(path, f"it does not begin like an IDX file of {dimensions} dimensions"))
    shape = [int(size) for size in np.frombuffer(content, ">i4", dimensions, offset=4)]
    if len(content) != start + prod(shape):
        raise AebenchError(_corrupt(path, f"it has {len(content)} bytes, its header promises {start + prod(shape)}"))
    return torch.from_numpy(np.frombuffer(content, np.uint8, offset=start).reshape(shape).copy())


def _corrupt(path: Path, why: str) -> str:
    return f"{path} is corrupt or truncated: {why}; delete it and run again to download it again"
