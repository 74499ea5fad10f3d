"""Omniglot and CelebA: picture files, resized as they are read from the published zip archives."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from aebench.contracts import Params, RawImages
from aebench.datasets.files import PublishedFiles
from aebench.datasets.limits import LARGEST_SIDE, check_memory

if TYPE_CHECKING:
    from PIL.Image import Image

CELEBA_TEST = 2  # in its table of splits; 0 is training, 1 validation


class OmniglotParams(Params):
    """`size`: of the images in pixels; they are published with 105x105."""

    size: int = Field(default=32, ge=8, le=LARGEST_SIDE)


class CelebaParams(Params):
    """Size and number of the images; the defaults take 0.7 GB of memory, all images 2.5 GB.

    `size`: in pixels; the published 178x218 are cropped to the central square and resized.
    `train_images`, `test_images`: how many to read, in the published order; at most 182,637 and 19,962.
    """

    size: int = Field(default=64, ge=8, le=LARGEST_SIDE)
    train_images: int = Field(default=50_000, gt=0)
    test_images: int = Field(default=10_000, gt=0)


def load_omniglot(params: OmniglotParams, data_dir: Path) -> RawImages:
    """Omniglot, 1xSxS, bright strokes on black: 30 alphabets for training and 20 others for testing.

    There are no labels: no character and no alphabet of the test images occurs among the training images, so that
    nothing can be learnt in training about the classes of the test.

    Raises:
        AebenchError: the archives are missing or damaged.
    """
    from PIL import ImageOps
    from PIL.Image import Resampling
    from torchvision.datasets import Omniglot
    from torchvision.datasets.utils import download_url

    folder = data_dir / Omniglot.folder
    md5 = {f"{part}.zip": digest for part, digest in Omniglot.zips_md5.items()}
    PublishedFiles("Omniglot", folder, md5).ensure(
        lambda: [download_url(f"{Omniglot.download_url_prefix}/{file}", folder, file, md5[file]) for file in md5]
    )

    def prepare(image: Image) -> Image:
        # Published as black on white, one bit per pixel.
        return ImageOps.invert(image.convert("L")).resize((params.size, params.size), Resampling.BILINEAR)

    shape = (1, params.size, params.size)
    images, test_images = (
        _read_images(folder / f"images_{part}.zip", shape, prepare) for part in ("background", "evaluation")
    )
    return RawImages(images, test_images=test_images)


def load_celeba(params: CelebaParams, data_dir: Path) -> RawImages:
    """CelebA's aligned faces, 3xSxS, with the published test split; its validation images are used for training.

    There are no labels: its 40 attributes are not classes, since an image has many of them.

    Raises:
        AebenchError: its files are missing or damaged. Of its tables only the one of splits is needed.
    """
    from PIL.Image import Resampling
    from torchvision.datasets import CelebA
    from torchvision.datasets.utils import download_file_from_google_drive
    from torchvision.transforms.functional import center_crop

    folder = data_dir / CelebA.base_folder
    needed = {
        name: (file_id, md5)
        for file_id, md5, name in CelebA.file_list
        if name in ("img_align_celeba.zip", "list_eval_partition.txt")
    }
    PublishedFiles("CelebA", folder, {name: md5 for name, (_, md5) in needed.items()}).ensure(
        lambda: [download_file_from_google_drive(id_, folder, name, md5) for name, (id_, md5) in needed.items()]
    )
    rows = [line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()]
    train = [f"img_align_celeba/{name}" for name, part in rows if int(part) != CELEBA_TEST]
    test = [f"img_align_celeba/{name}" for name, part in rows if int(part) == CELEBA_TEST]

    def prepare(image: Image) -> Image:
        square = center_crop(image.convert("RGB"), min(image.size))
        return square.resize((params.size, params.size), Resampling.BILINEAR)

    archive, shape = folder / "img_align_celeba.zip", (3, params.size, params.size)
    return RawImages(
        _read_images(archive, shape, prepare, train[: params.train_images]),
        test_images=_read_images(archive, shape, prepare, test[: params.test_images]),
    )


def _read_images(
    archive: Path, shape: tuple[int, int, int], prepare: Callable[[Image], Image], names: Sequence[str] | None = None
) -> Tensor:
    """Images of a zip archive, each prepared to fit `shape` (C, H, W); without `names` all in its folder, sorted."""
    from PIL import Image

    with zipfile.ZipFile(archive) as file:
        if names is None:
            names = sorted(n for n in file.namelist() if n.startswith(f"{archive.stem}/") and n.endswith(".png"))
        check_memory(str(archive), (len(names), *shape))
        pixels: np.ndarray[Any, Any] = np.empty((len(names), *shape), np.uint8)
        for i, name in enumerate(names):
            with file.open(name) as content, Image.open(content) as image:
                pixels[i] = np.atleast_3d(np.asarray(prepare(image))).transpose(2, 0, 1)
    return torch.from_numpy(pixels)
