"""CIFAR-10, SVHN and USPS: torchvision downloads and reads them; their files are checked before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from aebench.contracts import Params, RawImages
from aebench.datasets.files import PublishedFiles
from aebench.datasets.pickled_arrays import read_pickle

DIGITS = tuple(str(digit) for digit in range(10))


def load_cifar10(params: Params, data_dir: Path) -> RawImages:
    """CIFAR-10, 3x32x32; raises an AebenchError if its files are missing or damaged."""
    from torchvision.datasets import CIFAR10
    from torchvision.datasets.utils import download_and_extract_archive

    listed = [*CIFAR10.train_list, *CIFAR10.test_list, (CIFAR10.meta["filename"], CIFAR10.meta["md5"])]
    md5 = {f"{CIFAR10.base_folder}/{name}": digest for name, digest in listed}
    PublishedFiles("CIFAR-10", data_dir, md5, {CIFAR10.filename: CIFAR10.tgz_md5}).ensure(
        lambda: download_and_extract_archive(CIFAR10.url, data_dir, filename=CIFAR10.filename, md5=CIFAR10.tgz_md5)
    )
    *batches, meta = (read_pickle(data_dir / file) for file in md5)
    images = [torch.from_numpy(batch["data"]).reshape(-1, 3, 32, 32) for batch in batches]
    labels = [torch.tensor(batch["labels"]) for batch in batches]
    train = len(CIFAR10.train_list)
    return RawImages(
        torch.cat(images[:train]),
        torch.cat(labels[:train]),
        torch.cat(images[train:]),
        torch.cat(labels[train:]),
        classes=tuple(meta[CIFAR10.meta["key"]]),
    )


def load_svhn(params: Params, data_dir: Path) -> RawImages:
    """SVHN's cropped digits, 3x32x32, without its "extra" images; raises as `load_cifar10` does.

    The files call the digit zero 10. torchvision makes it 0, so that a label is its digit.
    """
    from torchvision.datasets import SVHN

    _ensure("SVHN", data_dir, [SVHN.split_list[part] for part in ("train", "test")])
    train, test = (SVHN(root=str(data_dir), split=part) for part in ("train", "test"))
    return RawImages(
        torch.from_numpy(train.data).contiguous(),
        torch.from_numpy(train.labels),
        torch.from_numpy(test.data).contiguous(),
        torch.from_numpy(test.labels),
        DIGITS,
    )


def load_usps(params: Params, data_dir: Path) -> RawImages:
    """USPS, 1x16x16; raises as `load_cifar10` does.

    The files number classes from 1 and pixels from -1 to 1. torchvision makes them 0..9, so that a label is its digit,
    and 0..255.
    """
    from torchvision.datasets import USPS

    _ensure("USPS", data_dir, [USPS.split_list[part] for part in ("train", "test")])
    train, test = (USPS(root=str(data_dir), train=part) for part in (True, False))
    return RawImages(
        torch.from_numpy(train.data)[:, None],
        torch.tensor(train.targets),
        torch.from_numpy(test.data)[:, None],
        torch.tensor(test.targets),
        DIGITS,
    )


def _ensure(title: str, data_dir: Path, published: Sequence[Sequence[str]]) -> None:
    """The files of a data set are there, each given by its URL, name and MD5 digest."""
    from torchvision.datasets.utils import download_url

    PublishedFiles(title, data_dir, {name: md5 for _, name, md5 in published}).ensure(
        lambda: [download_url(url, data_dir, name, md5) for url, name, md5 in published]
    )
