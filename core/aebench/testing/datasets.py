"""What the contract asks of every data set, whoever brings it."""

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
from aebench.testing.surroundings import SUITE_SEED, nothing_left_behind, unchanged_randomness


@dataclass(frozen=True)
class DatasetUnderTest:
    """A data set on trial: `params` where it has no defaults, and the directory it may download to."""

    record: DatasetRecord
    data_dir: Path
    params: Mapping[str, Any] = field(default_factory=dict)

    def load(self) -> ImageDataset:
        """The data, loaded and split; the shapes, dtypes and labels have been looked at then."""
        return load_dataset(self.record, self.record.params(**self.params), self.data_dir, splits_seed(SUITE_SEED))


@check("aebench.contracts.RawImages")
def it_loads(subject: DatasetUnderTest) -> int:
    """The loader returns uint8 images with fitting labels, which are cut into three splits."""
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
        expect(not missing, "every class among the test images", f"{[data.classes[i] for i in missing]} are not")
    return sum(data.info.sizes)


@check("aebench.contracts.DatasetRecord")
def it_is_always_the_same(subject: DatasetUnderTest) -> int:
    """Loading twice gives the same images in the same order."""
    one, other = (subject.load().info.fingerprint for _ in range(2))
    expect(one == other, "the same fingerprint twice", f"they are {one[:8]} and {other[:8]}")
    return 2


@check("aebench.contracts.DatasetRecord")
def nothing_is_left_behind(subject: DatasetUnderTest) -> int:
    """Loading prints nothing, writes only to the data directory, and leaves global generators alone."""
    subject.load()
    with nothing_left_behind("loading"), unchanged_randomness("loading"):
        subject.load()
    return 1


@check("aebench.contracts.Params")
def parameters_are_checked(subject: DatasetUnderTest) -> int:
    """The params model rejects unknown keys."""
    return reject_unknown_keys(subject.record.params, need_defaults=False)


CHECKS = (it_loads, it_is_always_the_same, nothing_is_left_behind, parameters_are_checked)
