"""MedMNIST's 2-D sets, read by the package medmnist, which is optional."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from aebench.contracts import Params, RawImages
from aebench.datasets.files import PublishedFiles
from aebench.errors import AebenchError


class MedmnistParams(Params):
    """`subset`: one of MedMNIST's twelve 2-D sets. `size`: of its images, in pixels."""

    subset: Literal[
        "bloodmnist",
        "breastmnist",
        "chestmnist",
        "dermamnist",
        "octmnist",
        "organamnist",
        "organcmnist",
        "organsmnist",
        "pathmnist",
        "pneumoniamnist",
        "retinamnist",
        "tissuemnist",
    ] = "pathmnist"
    size: Literal[28, 64] = 28


def load_medmnist(params: MedmnistParams, data_dir: Path) -> RawImages:
    """A set of MedMNIST, 1 or 3 channels, with the published test split; its validation images are used for training.

    The labels are the published classes; `chestmnist` has none, since an image may show any number of its 14 findings.

    Raises:
        AebenchError: the package is not installed, or the file is missing or damaged.
    """
    try:
        from medmnist import INFO, dataset
    except ImportError as error:
        raise AebenchError(
            "data set 'medmnist' needs the package medmnist, which cannot be imported "
            f"({error}); pip install 'medmnist>=3'"
        ) from error
    from torchvision.datasets.utils import download_url

    info = INFO[params.subset]
    suffix = "" if params.size == 28 else f"_{params.size}"
    folder, file, md5 = data_dir / "MedMNIST", f"{params.subset}{suffix}.npz", info[f"MD5{suffix}"]
    PublishedFiles("MedMNIST", folder, {file: md5}).ensure(
        lambda: download_url(info[f"url{suffix}"], folder, file, md5)
    )
    dataset_class = getattr(dataset, info["python_class"])
    train, validation, test = (
        dataset_class(part, root=str(folder), size=params.size) for part in ("train", "val", "test")
    )
    images = torch.cat([_images(train), _images(validation)])
    if info["task"].startswith("multi-label"):
        return RawImages(images, test_images=_images(test))
    labels = torch.cat([_labels(train), _labels(validation)])
    classes = tuple(info["label"][str(i)] for i in range(len(info["label"])))
    return RawImages(images, labels, _images(test), _labels(test), classes)


def _images(part: Any) -> Tensor:
    """(N, H, W) or (N, H, W, 3) uint8 -> (N, C, H, W)."""
    pixels = torch.from_numpy(part.imgs)
    return pixels[:, None] if pixels.ndim == 3 else pixels.permute(0, 3, 1, 2).contiguous()


def _labels(part: Any) -> Tensor:
    """(N, 1) -> (N,) int64."""
    return torch.from_numpy(part.labels.astype(np.int64)).flatten()
