"""The checks of every data set, in the order in which they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aebench.contracts import DatasetRecord, ImageDataset
from aebench.datasets import load_dataset
from aebench.planning.seeds import splits_seed
from aebench.testing.checks import check, expect
from aebench.testing.parameters import reject_unknown_keys
from aebench.testing.side_effects import no_global_randomness, no_leftovers
from aebench.testing.small_digits import SUITE_SEED


@dataclass(frozen=True)
class DatasetUnderTest:
    """A registered data set, with `params` where it has no defaults, and the directory that it may download to."""

    record: DatasetRecord
    data_dir: Path
    params: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> ImageDataset:
        """The data, loaded and split.

        Raises:
            AebenchError: the loader returned a wrong shape or dtype, or labels that do not match the images.
        """
        return load_dataset(self.record, self.record.params(**self.params), self.data_dir, splits_seed(SUITE_SEED))


@check("aebench.contracts.RawImages")
def images_load(subject: DatasetUnderTest) -> int:
    """The loader returns uint8 images with matching labels, and they are split into train, validation and test."""
    data = subject.load()
    for name, size in zip(("train", "validation", "test"), data.info.sizes, strict=True):
        expect(size > 0, f"images in the {name} split", "there are none")
    images = data.train.images
    expect(int(images.min()) < int(images.max()), "images that differ", f"every pixel is {int(images.min())}")
    expect(
        int(images.max()) > 1, "pixels in 0..255", f"the brightest is {int(images.max())}: were they scaled to [0, 1]?"
    )
    if data.classes:
        assert data.test.labels is not None
        missing = set(range(len(data.classes))) - set(data.test.labels.tolist())
        expect(not missing, "every class among the test images", f"{[data.classes[i] for i in missing]} are missing")
    return sum(data.info.sizes)


@check("aebench.contracts.DatasetRecord")
def deterministic_loading(subject: DatasetUnderTest) -> int:
    """Loading twice gives the same images in the same order."""
    one, other = (subject.load().info.fingerprint for _ in range(2))
    expect(one == other, "the same fingerprint from two loads", f"they are {one[:8]} and {other[:8]}")
    return 2


@check("aebench.contracts.DatasetRecord")
def no_side_effects(subject: DatasetUnderTest) -> int:
    """Loading prints nothing, writes only to the data directory, and does not use global generators."""
    subject.load()
    with no_leftovers("loading"), no_global_randomness("loading"):
        subject.load()
    return 1


@check("aebench.contracts.Params")
def strict_parameters(subject: DatasetUnderTest) -> int:
    """The params model rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=False)


CHECKS = (images_load, deterministic_loading, no_side_effects, strict_parameters)
