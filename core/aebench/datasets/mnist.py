"""MNIST and its relatives, which are published as IDX files: Fashion-MNIST, KMNIST, EMNIST and QMNIST."""

from __future__ import annotations

import gzip
import shutil
import zipfile
from collections.abc import Callable, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from aebench.contracts import Params, RawImages
from aebench.datasets.files import PublishedFiles, corrupt
from aebench.datasets.limits import LARGEST_PADDING, check_memory
from aebench.errors import DamagedFile

# Published digests of the uncompressed files: a damaged file must not become a result.
MNIST_MD5 = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
IDX_FILES = tuple(MNIST_MD5)
EMNIST_ARCHIVE = "gzip.zip"
IDX_TYPES = {"ubyte": "u1", "int": ">i4"}  # by the end of a file's name
IDX_CODES = {"u1": 8, ">i4": 12}


class TorchvisionParams(Params):
    """`padding`: zeros added on each side, in pixels; 2 turns 28x28 into the article's 32x32."""

    padding: int = Field(default=2, ge=0, le=LARGEST_PADDING)


class EmnistParams(TorchvisionParams):
    """`split`: which of EMNIST's sets of classes; "balanced" has as many images of each of its 47 classes."""

    split: Literal["balanced", "byclass", "bymerge", "letters", "digits", "mnist"] = "balanced"


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
        files = PublishedFiles(class_name, folder, {file: md5.get(file) for file in IDX_FILES}, check=_check_idx)
        files.ensure(lambda: dataset_class(root=str(data_dir), download=True))
        (images, labels), (test_images, test_labels) = (_read_part(folder, part) for part in ("train", "t10k"))
        return RawImages(
            _pad(images, params), labels, _pad(test_images, params), test_labels, _digit_names(dataset_class)
        )

    return load


def load_emnist(params: EmnistParams, data_dir: Path) -> RawImages:
    """One split of EMNIST, with upright images; raises an AebenchError if its files are missing or damaged."""
    from torchvision.datasets import EMNIST

    folder = data_dir / "EMNIST" / "raw"
    prefix = f"emnist-{params.split}"
    names = [f"{prefix}-{part}-{kind}-ubyte" for part in ("train", "test") for kind in ("images-idx3", "labels-idx1")]
    files = PublishedFiles("EMNIST", folder, dict.fromkeys(names), {EMNIST_ARCHIVE: EMNIST.md5}, _check_idx)
    files.ensure(lambda: _download_emnist(folder, names))
    (images, labels), (test_images, test_labels) = (
        _read_part(folder, f"{prefix}-{part}") for part in ("train", "test")
    )
    # The files hold each image column by column.
    images, test_images = (_pad(part.transpose(1, 2), params) for part in (images, test_images))
    classes = tuple(EMNIST.classes_split_dict[params.split])
    if params.split == "letters":  # numbered from 1; torchvision calls class 0 "N/A"
        labels, test_labels, classes = labels - 1, test_labels - 1, classes[1:]
    return RawImages(images, labels, test_images, test_labels, classes)


def _download_emnist(folder: Path, names: Sequence[str]) -> None:
    """Download the archive of all splits, unless it is there, and unpack the files of one."""
    from torchvision.datasets import EMNIST
    from torchvision.datasets.utils import download_url

    download_url(EMNIST.url, folder, EMNIST_ARCHIVE, EMNIST.md5)
    with zipfile.ZipFile(folder / EMNIST_ARCHIVE) as archive:
        for name in names:
            with (
                archive.open(f"gzip/{name}.gz") as packed,
                gzip.open(packed) as content,
                (folder / name).open("wb") as file,
            ):
                shutil.copyfileobj(content, file)


def load_qmnist(params: TorchvisionParams, data_dir: Path) -> RawImages:
    """QMNIST with its 60,000 test images; raises an AebenchError if its files are missing or damaged."""
    from torchvision.datasets import QMNIST

    folder = data_dir / "QMNIST" / "raw"
    parts = ("train", "test")
    names = [f"qmnist-{part}-{kind}" for part in parts for kind in ("images-idx3-ubyte", "labels-idx2-int")]
    archives = {url.rpartition("/")[2]: md5 for part in parts for url, md5 in QMNIST.resources[part]}
    files = PublishedFiles("QMNIST", folder, dict.fromkeys(names), archives, _check_idx)
    files.ensure(lambda: [QMNIST(root=str(data_dir), what=part, download=True) for part in parts])
    images, test_images = (_pad(_read_idx(folder / f"qmnist-{part}-images-idx3-ubyte", 3), params) for part in parts)
    # Eight numbers describe each digit: its class, then the writer and the place in NIST's collection.
    labels, test_labels = (
        _read_idx(folder / f"qmnist-{part}-labels-idx2-int", 2, ">i4")[:, 0].long() for part in parts
    )
    return RawImages(images, labels, test_images, test_labels, _digit_names(QMNIST))


def _read_part(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Images (N, H, W) uint8 and labels (N,) int64 of the two files whose names begin with `part`."""
    images = _read_idx(folder / f"{part}-images-idx3-ubyte", 3)
    return images, _read_idx(folder / f"{part}-labels-idx1-ubyte", 1).long()


def _pad(images: Tensor, params: TorchvisionParams) -> Tensor:
    count, height, width = images.shape
    check_memory("images with padding", (count, 1, height + 2 * params.padding, width + 2 * params.padding))
    return functional.pad(images[:, None], [params.padding] * 4)


def _digit_names(dataset_class: Any) -> tuple[str, ...]:
    return tuple(name.partition(" - ")[0] for name in dataset_class.classes)


def _read_idx(path: Path, dimensions: int, dtype: str = "u1") -> Tensor:
    """The values of an IDX file whose header has been checked."""
    content = path.read_bytes()
    shape = np.frombuffer(content, ">i4", dimensions, offset=4).tolist()
    values = np.frombuffer(content, dtype, offset=4 + 4 * dimensions).reshape(shape)
    return torch.from_numpy(values.astype(np.dtype(dtype).newbyteorder("=")))


def _check_idx(path: Path) -> None:
    """Compare the header of an IDX file with its name and its length.

    It has the code of the type, the number of dimensions, and sizes as big-endian int32; the values follow. The name
    tells type and dimensions: `…-idx3-ubyte`.

    Raises:
        DamagedFile: they differ.
    """
    _, dimensions_part, kind = path.name.rsplit("-", 2)
    dimensions, dtype = int(dimensions_part.removeprefix("idx")), IDX_TYPES[kind]
    start = 4 + 4 * dimensions
    with path.open("rb") as file:
        header = file.read(start)
    if len(header) < start or header[:4] != bytes([0, 0, IDX_CODES[dtype], dimensions]):
        raise DamagedFile(corrupt(path, f"it does not begin like an IDX file of {dimensions} dimensions"))
    shape = np.frombuffer(header, ">i4", offset=4).tolist()
    length, found = start + prod(shape) * np.dtype(dtype).itemsize, path.stat().st_size
    if min(shape) < 0 or found != length:
        raise DamagedFile(corrupt(path, f"it has {found} bytes, its header promises {length}"))
