"""The data sets that ship with aebench, and the cut of raw images into the splits of an `ImageDataset`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from aebench.contracts import DatasetRecord, ImageDataset, Params, RawImages, Split, hookimpl
from aebench.datasets.limits import MOST_CLASSES
from aebench.datasets.medmnist import MedmnistParams, load_medmnist
from aebench.datasets.mnist import (
    MNIST_MD5,
    EmnistParams,
    TorchvisionParams,
    load_emnist,
    load_qmnist,
    torchvision_loader,
)
from aebench.datasets.torchvision_sets import DIGITS, load_cifar10, load_svhn, load_usps
from aebench.datasets.user_images import ArrayParams, FolderParams, load_folder, load_npz
from aebench.datasets.zipped_images import CelebaParams, OmniglotParams, load_celeba, load_omniglot
from aebench.errors import AebenchError

MINIMUM_IMAGES = 20
LONGEST_NAME = 200  # of a class, in characters
TEST_SHARE = 1 / 5  # of all images, where there is no standard test split
VALIDATION_SHARE = 1 / 12  # of the training images: 5,000 of MNIST's 60,000


def load_dataset(record: DatasetRecord, params: Any, data_dir: Path, seed: int) -> ImageDataset:
    """Load a data set and cut it into disjoint splits.

    The standard test split is kept; without one, a fifth of the images becomes the test split. A twelfth of the rest
    becomes the validation split.

    Args:
        record: the data set.
        params: validated parameters of the loader.
        data_dir: where data sets are kept.
        seed: decides which image goes to which split.

    Raises:
        AebenchError: the data cannot be loaded, or is not what the loader promises.
    """
    raw = record.load(params, data_dir)
    _check(record.name, raw)
    generator = torch.Generator().manual_seed(seed)
    rest = Split(raw.images, raw.labels)
    if raw.test_images is not None:
        test = Split(raw.test_images, raw.test_labels)
    else:
        rest, test = _cut(rest, TEST_SHARE, generator)
    train, validation = _cut(rest, VALIDATION_SHARE, generator)
    return ImageDataset(record.name, record.title, raw.classes, record.batch_size, train, validation, test)


def _cut(split: Split, share: float, generator: torch.Generator) -> tuple[Split, Split]:
    """A random share of `split` as the second part, the rest as the first; both keep their order."""
    order = torch.randperm(len(split), generator=generator)
    size = max(1, round(len(split) * share))
    kept, cut = order[size:].sort().values, order[:size].sort().values
    return split.at(kept), split.at(cut)


def _check(name: str, raw: RawImages) -> None:
    for images, labels in ((raw.images, raw.labels), (raw.test_images, raw.test_labels)):
        if images is None:
            continue
        if images.dtype != torch.uint8 or images.ndim != 4:
            raise AebenchError(
                f"data set '{name}': images must be (N, C, H, W) uint8, got {tuple(images.shape)} {images.dtype}"
            )
        if labels is None:
            continue
        if labels.dtype != torch.int64 or labels.shape != (len(images),):
            raise AebenchError(
                f"data set '{name}': labels must be ({len(images)},) int64, got {tuple(labels.shape)} {labels.dtype}"
            )
        if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < len(raw.classes):
            raise AebenchError(
                f"data set '{name}': labels must lie in 0..{len(raw.classes) - 1}, "
                f"got {int(labels.min())}..{int(labels.max())}"
            )
    _check_classes(name, raw)
    if raw.labels is None and raw.classes:
        raise AebenchError(f"data set '{name}': there are class names but no labels")
    if raw.test_images is not None and (raw.labels is None) != (raw.test_labels is None):
        raise AebenchError(f"data set '{name}': training and test images must both have labels or both have none")
    if len(raw.images) < MINIMUM_IMAGES:
        raise AebenchError(f"data set '{name}': needs at least {MINIMUM_IMAGES} images, got {len(raw.images)}")


def _check_classes(name: str, raw: RawImages) -> None:
    classes = raw.classes
    if raw.labels is not None and len(classes) == 1:
        raise AebenchError(
            f"data set '{name}': there is only one class, '{classes[0]}'; give two at least, or no labels at all"
        )
    if len(classes) > MOST_CLASSES:
        raise AebenchError(f"data set '{name}': there are {len(classes):,} classes; the limit is {MOST_CLASSES:,}")
    if len(set(classes)) < len(classes):
        raise AebenchError(f"data set '{name}': two classes have the same name")
    for label in classes:
        if not label.isprintable() or not 0 < len(label) <= LONGEST_NAME:
            raise AebenchError(
                f"data set '{name}': the name of a class must be printable and of 1 to {LONGEST_NAME} characters, "
                f"got {label[:LONGEST_NAME]!r}"
            )


def _digits(params: Params, data_dir: Path) -> RawImages:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.from_numpy(np.rint(bunch.images * (255 / 16)).astype(np.uint8))[:, None]
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    return RawImages(images, labels, classes=DIGITS)


@hookimpl
def aebench_datasets() -> list[DatasetRecord]:
    return [
        DatasetRecord(
            name="digits",
            title="Digits (8x8)",
            summary="1,797 handwritten digits of 8x8 pixels that ship with scikit-learn; no download",
            source="Alpaydin & Kaynak 1998, UCI Optical Recognition of Handwritten Digits",
            load=_digits,
            batch_size=64,
        ),
        DatasetRecord(
            name="mnist",
            title="MNIST",
            summary="70,000 handwritten digits, padded to 32x32; the article's protocol",
            source="LeCun, Bottou, Bengio & Haffner 1998",
            params=TorchvisionParams,
            load=torchvision_loader("MNIST", MNIST_MD5),
        ),
        DatasetRecord(
            name="fashion_mnist",
            title="Fashion-MNIST",
            summary="70,000 articles of clothing in MNIST's format, padded to 32x32",
            source="Xiao, Rasul & Vollgraf 2017",
            params=TorchvisionParams,
            load=torchvision_loader("FashionMNIST", {}),
        ),
        DatasetRecord(
            name="kmnist",
            title="KMNIST",
            summary="70,000 cursive Japanese characters in MNIST's format, padded to 32x32",
            source="Clanuwat et al. 2018",
            params=TorchvisionParams,
            load=torchvision_loader("KMNIST", {}),
        ),
        DatasetRecord(
            name="emnist",
            title="EMNIST",
            summary="handwritten digits and letters, 131,600 of 47 classes by default, padded to 32x32",
            source="Cohen, Afshar, Tapson & van Schaik 2017",
            params=EmnistParams,
            load=load_emnist,
        ),
        DatasetRecord(
            name="qmnist",
            title="QMNIST",
            summary="MNIST rebuilt from its sources with 60,000 test digits, padded to 32x32",
            source="Yadav & Bottou 2019",
            params=TorchvisionParams,
            load=load_qmnist,
        ),
        DatasetRecord(
            name="usps",
            title="USPS (16x16)",
            summary="9,298 handwritten digits of 16x16 pixels from envelopes",
            source="Hull 1994",
            load=load_usps,
            batch_size=64,
        ),
        DatasetRecord(
            name="cifar10",
            title="CIFAR-10",
            summary="60,000 colour photographs of 32x32 pixels in 10 classes",
            source="Krizhevsky 2009",
            load=load_cifar10,
        ),
        DatasetRecord(
            name="svhn",
            title="SVHN",
            summary="99,289 colour pictures of house numbers, cropped to one digit of 32x32 pixels",
            source="Netzer et al. 2011",
            load=load_svhn,
        ),
        DatasetRecord(
            name="omniglot",
            title="Omniglot",
            summary="32,460 handwritten characters of 50 alphabets, resized to 32x32; no labels",
            source="Lake, Salakhutdinov & Tenenbaum 2015",
            params=OmniglotParams,
            load=load_omniglot,
        ),
        DatasetRecord(
            name="celeba",
            title="CelebA",
            summary="faces of celebrities, 60,000 of 202,599 by default, resized to 64x64; no labels",
            source="Liu, Luo, Wang & Tang 2015",
            params=CelebaParams,
            load=load_celeba,
        ),
        DatasetRecord(
            name="medmnist",
            title="MedMNIST",
            summary="medical images of 28x28 or 64x64 pixels, 12 sets to choose from; needs the package medmnist",
            source="Yang et al. 2023",
            params=MedmnistParams,
            load=load_medmnist,
        ),
        DatasetRecord(
            name="folder",
            title="Folder of images",
            summary="your own images: --dataset DIRECTORY; subfolders are the classes",
            params=FolderParams,
            load=load_folder,
        ),
        DatasetRecord(
            name="npz",
            title="NumPy arrays",
            summary="your own arrays: --dataset FILE.npz with x and, optionally, y",
            params=ArrayParams,
            load=load_npz,
        ),
    ]
