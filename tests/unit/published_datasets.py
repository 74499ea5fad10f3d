"""Small data sets in the formats in which the real ones are published, with torchvision's digests set to theirs."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import pickle
import struct
import sys
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import urlretrieve

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.io import savemat
from torchvision import datasets

from aebench.contracts import RawImages

DIGITS = tuple("0123456789")
NO_NETWORK = "http://127.0.0.1:9/"


@dataclass(frozen=True)
class Published:
    """A small data set.

    Attributes:
        name, params: of the record, and parameters of its loader.
        folder: below the data directory, where the published files belong.
        files: the published files by name.
        read: the files that the loader reads, below the folder; for an archive, what is unpacked.
        expected: what the loader returns.
        point_to: (patch, url) -> None; makes the published library expect these files, and download them from `url`.
        tolerance: of the pixels, for pictures that lose precision in their format.
    """

    name: str
    folder: str
    files: Mapping[str, bytes]
    read: tuple[str, ...]
    expected: RawImages
    point_to: Callable[[pytest.MonkeyPatch, str], None]
    params: Mapping[str, Any] = field(default_factory=dict)
    tolerance: int = 0

    def put(self, folder: Path) -> None:
        """Write the published files into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def cifar10() -> Published:
    images, labels = _pixels(50, 3, 32, 32), np.arange(50) % 10
    test_images, test_labels = _pixels(20, 3, 32, 32), np.arange(20) % 10
    names = tuple(f"class {i}" for i in range(10))
    members = {
        f"data_batch_{i + 1}": _old_pickle(_cifar_batch(images[10 * i : 10 * i + 10], labels[10 * i : 10 * i + 10]))
        for i in range(5)
    }
    members["test_batch"] = _old_pickle(_cifar_batch(test_images, test_labels))
    members["batches.meta"] = _old_pickle({"label_names": list(names), "num_cases_per_batch": 10, "num_vis": 3072})
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    files = {"cifar-10-python.tar.gz": archive.getvalue()}

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        patch.setattr(datasets.CIFAR10, "url", f"{url}cifar-10-python.tar.gz")
        patch.setattr(datasets.CIFAR10, "tgz_md5", _md5(files["cifar-10-python.tar.gz"]))
        patch.setattr(
            datasets.CIFAR10, "train_list", [[f"data_batch_{i}", _md5(members[f"data_batch_{i}"])] for i in range(1, 6)]
        )
        patch.setattr(datasets.CIFAR10, "test_list", [["test_batch", _md5(members["test_batch"])]])
        patch.setitem(datasets.CIFAR10.meta, "md5", _md5(members["batches.meta"]))

    expected = _raw(images, labels, test_images, test_labels, names)
    read = tuple(f"cifar-10-batches-py/{name}" for name in members)
    return Published("cifar10", "", files, read, expected, point_to)


def _cifar_batch(images: np.ndarray, labels: np.ndarray) -> dict[str, Any]:
    return {"batch_label": "one of five", "labels": labels.tolist(), "data": images.reshape(len(images), -1)}


class _OldPickler(pickle.Pickler):
    """Pickles dtypes as the NumPy of 2009 did, with integers for booleans; NumPy 2.4.0 warns when it reads them."""

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, np.dtype):
            return np.dtype, ("u1", 0, 1), (3, "|", None, None, None, -1, -1, 0)
        return NotImplemented


def _old_pickle(value: Any) -> bytes:
    file = io.BytesIO()
    _OldPickler(file, protocol=2).dump(value)
    return file.getvalue()


def svhn() -> Published:
    images, labels = _pixels(40, 3, 32, 32), np.arange(40) % 10
    test_images, test_labels = _pixels(20, 3, 32, 32), np.arange(20) % 10
    files = {}
    for name, x, y in (("train", images, labels), ("test", test_images, test_labels)):
        file = io.BytesIO()
        one_to_ten = np.where(y == 0, 10, y).astype(np.uint8)[:, None]
        savemat(file, {"X": x.transpose(2, 3, 1, 0), "y": one_to_ten})
        files[f"{name}_32x32.mat"] = file.getvalue()

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        for part in ("train", "test"):
            name = f"{part}_32x32.mat"
            patch.setitem(datasets.SVHN.split_list, part, [f"{url}{name}", name, _md5(files[name])])
        patch.setitem(datasets.SVHN.split_list, "extra", [f"{NO_NETWORK}extra", "extra", ""])

    expected = _raw(images, labels, test_images, test_labels, DIGITS)
    return Published("svhn", "", files, tuple(files), expected, point_to)


def usps() -> Published:
    values, labels = _rng().integers(-1, 2, (40, 256)), np.arange(40) % 10
    test_values, test_labels = _rng().integers(-1, 2, (20, 256)), np.arange(20) % 10
    files = {
        name: bz2.compress("".join(map(_libsvm_line, x, y)).encode())
        for name, x, y in (("usps.bz2", values, labels), ("usps.t.bz2", test_values, test_labels))
    }

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        for part, name in (("train", "usps.bz2"), ("test", "usps.t.bz2")):
            patch.setitem(datasets.USPS.split_list, part, [f"{url}{name}", name, _md5(files[name])])

    grey = np.array([0, 127, 255], dtype=np.uint8)  # of -1, 0 and 1
    images, test_images = (grey[x + 1].reshape(-1, 1, 16, 16) for x in (values, test_values))
    expected = _raw(images, labels, test_images, test_labels, DIGITS)
    return Published("usps", "", files, tuple(files), expected, point_to)


def _libsvm_line(pixels: np.ndarray, label: int) -> str:
    return f"{label + 1} " + " ".join(f"{i}:{value:.6f}" for i, value in enumerate(pixels, start=1)) + " \n"


def emnist(split: str = "balanced", classes: int = 47, first_label: int = 0) -> Published:
    images, labels = _pixels(2 * classes, 1, 28, 28), np.arange(2 * classes) % classes
    test_images, test_labels = _pixels(classes, 1, 28, 28), np.arange(classes)
    members = {}
    for part, x, y in (("train", images, labels), ("test", test_images, test_labels)):
        members[f"emnist-{split}-{part}-images-idx3-ubyte"] = idx(x[:, 0].transpose(0, 2, 1))
        members[f"emnist-{split}-{part}-labels-idx1-ubyte"] = idx((y + first_label).astype(np.uint8))
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in members.items():
            file.writestr(f"gzip/{name}.gz", gzip.compress(content))
    files = {"gzip.zip": archive.getvalue()}

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        patch.setattr(datasets.EMNIST, "url", f"{url}gzip.zip")
        patch.setattr(datasets.EMNIST, "md5", _md5(files["gzip.zip"]))

    names = {
        "balanced": tuple("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt"),
        "letters": tuple("abcdefghijklmnopqrstuvwxyz"),
    }[split]
    expected = _raw(_padded(images), labels, _padded(test_images), test_labels, names)
    return Published("emnist", "EMNIST/raw", files, tuple(members), expected, point_to, {"split": split})


def emnist_letters() -> Published:
    return emnist("letters", classes=26, first_label=1)


def qmnist() -> Published:
    images, labels = _pixels(40, 1, 28, 28), np.arange(40) % 10
    test_images, test_labels = _pixels(20, 1, 28, 28), np.arange(20) % 10
    members = {}
    for part, x, y in (("train", images, labels), ("test", test_images, test_labels)):
        members[f"qmnist-{part}-images-idx3-ubyte"] = idx(x[:, 0])
        table = np.concatenate([y[:, None], _rng().integers(300_000, size=(len(y), 7))], axis=1)
        members[f"qmnist-{part}-labels-idx2-int"] = idx(table.astype(">i4"))
    files = {f"{name}.gz": gzip.compress(content) for name, content in members.items()}

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        for part in ("train", "test"):
            names = [name for name in files if part in name]
            patch.setitem(datasets.QMNIST.resources, part, [(f"{url}{name}", _md5(files[name])) for name in names])

    expected = _raw(_padded(images), labels, _padded(test_images), test_labels, DIGITS)
    return Published("qmnist", "QMNIST/raw", files, tuple(members), expected, point_to)


def omniglot(ink: tuple[int, int] = (105, 105)) -> Published:
    """The upper left rectangle of `ink` pixels is plain, black or white; the rest is white."""
    images, files = {}, {}
    for part, number in (("background", 40), ("evaluation", 20)):
        images[part] = _plain_images(number, (1, 32, 32), bright=_rng().integers(2, size=number) * 255)
        pictures = {
            f"images_{part}/Alphabet_{i // 10}/character{i % 10 // 5:02}/{i:04}_01.png": _picture(
                _bilevel(int(255 - image[0, 0, 0]), ink), "png"
            )
            for i, image in enumerate(images[part])
        }
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w") as file:
            for name in reversed(pictures):
                file.writestr(name, pictures[name])
            file.writestr(f"__MACOSX/images_{part}/._0001.png", b"no picture")
        files[f"images_{part}.zip"] = archive.getvalue()

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        patch.setattr(datasets.Omniglot, "download_url_prefix", url.removesuffix("/"))
        for name, content in files.items():
            patch.setitem(datasets.Omniglot.zips_md5, name.removesuffix(".zip"), _md5(content))

    expected = _raw(images["background"], None, images["evaluation"], None)
    return Published("omniglot", "omniglot-py", files, tuple(files), expected, point_to)


def _bilevel(value: int, size: tuple[int, int]) -> Image.Image:
    image = Image.new("1", (105, 105), color=255)
    image.paste(value, (0, 0, *size))
    return image


def celeba() -> Published:
    bright = _rng().integers(100, 200, size=80)
    rows, pictures = [], {}
    for i, value in enumerate(bright):
        face = Image.new("RGB", (178, 218), color="white")
        face.paste((int(value),) * 3, (0, 16, 178, 200))  # the central square is in rows 20 to 198
        pictures[f"img_align_celeba/{i + 1:06}.jpg"] = _picture(face, "jpeg", quality=95)
        rows.append(f"{i + 1:06}.jpg {0 if i < 40 else 1 if i < 50 else 2}\n")
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        for name, content in pictures.items():
            file.writestr(name, content)
    files = {"img_align_celeba.zip": archive.getvalue(), "list_eval_partition.txt": "".join(rows).encode()}

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        listed = [(name, _md5(content), name) for name, content in files.items()]
        unused = [("an id", "a digest", "list_attr_celeba.txt")]
        patch.setattr(datasets.CelebA, "file_list", unused + listed)
        gdown = SimpleNamespace(download=lambda id, output, **options: urlretrieve(url + id, output))
        patch.setitem(sys.modules, "gdown", None if url == NO_NETWORK else gdown)

    images = _plain_images(80, (3, 16, 16), bright)
    expected = _raw(images[:50], None, images[50:], None)
    return Published("celeba", "celeba", files, tuple(files), expected, point_to, {"size": 16}, tolerance=2)


def medmnist(subset: str = "breastmnist", size: int = 28, classes: int = 2, channels: int = 1) -> Published:
    numbers = {"train": 30, "val": 10, "test": 20}
    images = {part: _pixels(number, channels, size, size) for part, number in numbers.items()}
    labels = {part: np.arange(number) % classes for part, number in numbers.items()}
    arrays = {}
    for part, number in numbers.items():
        arrays[f"{part}_images"] = images[part][:, 0] if channels == 1 else images[part].transpose(0, 2, 3, 1)
        columns = _rng().integers(2, size=(number, 14)) if subset == "chestmnist" else labels[part][:, None]
        arrays[f"{part}_labels"] = columns.astype(np.uint8)
    file = io.BytesIO()
    np.savez(file, **arrays)
    suffix = "" if size == 28 else f"_{size}"
    files = {f"{subset}{suffix}.npz": file.getvalue()}

    def point_to(patch: pytest.MonkeyPatch, url: str) -> None:
        info = pytest.importorskip("medmnist").INFO[subset]
        patch.setitem(info, f"url{suffix}", f"{url}{subset}{suffix}.npz")
        patch.setitem(info, f"MD5{suffix}", _md5(file.getvalue()))

    train = np.concatenate([images["train"], images["val"]])
    if subset == "chestmnist":
        expected = _raw(train, None, images["test"], None)
    else:
        names = {"breastmnist": ("malignant", "normal, benign"), "bloodmnist": BLOOD_CELLS}[subset]
        expected = _raw(train, np.concatenate([labels["train"], labels["val"]]), images["test"], labels["test"], names)
    params = {"subset": subset, "size": size}
    return Published("medmnist", "MedMNIST", files, tuple(files), expected, point_to, params)


BLOOD_CELLS = (
    "basophil",
    "eosinophil",
    "erythroblast",
    "immature granulocytes(myelocytes, metamyelocytes and promyelocytes)",
    "lymphocyte",
    "monocyte",
    "neutrophil",
    "platelet",
)


def medmnist_in_colour() -> Published:
    return medmnist("bloodmnist", size=64, classes=8, channels=3)


def medmnist_without_labels() -> Published:
    return medmnist("chestmnist")


ALL = (
    cifar10,
    svhn,
    usps,
    emnist,
    emnist_letters,
    qmnist,
    omniglot,
    celeba,
    medmnist,
    medmnist_in_colour,
    medmnist_without_labels,
)


def idx(array: np.ndarray) -> bytes:
    """An IDX file of uint8 or big-endian int32."""
    code = 8 if array.dtype == np.uint8 else 12
    return bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def _rng() -> np.random.Generator:
    return np.random.default_rng(0)


def _pixels(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(256, size=shape, dtype=np.uint8)


def _plain_images(number: int, shape: tuple[int, int, int], bright: np.ndarray) -> np.ndarray:
    """(N, C, H, W) uint8; every pixel of image i is `bright[i]`."""
    return np.broadcast_to(bright.astype(np.uint8)[:, None, None, None], (number, *shape)).copy()


def _padded(images: np.ndarray) -> np.ndarray:
    return np.pad(images, ((0, 0), (0, 0), (2, 2), (2, 2)))


def _picture(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _raw(images, labels, test_images, test_labels, classes=()) -> RawImages:
    return RawImages(
        torch.from_numpy(images),
        None if labels is None else torch.from_numpy(labels),
        torch.from_numpy(test_images),
        None if test_labels is None else torch.from_numpy(test_labels),
        classes,
    )


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()
