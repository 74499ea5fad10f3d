"""The kit finds defective data sets: each defect is absent from the correct twin."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Generator

from aebench.contracts import DatasetRecord, RawImages
from aebench.testing import DatasetUnderTest, datasets
from tests.conformance.lax_params import LaxParams


def images(seed=0, high=256):
    generator = Generator().manual_seed(seed)
    labels = torch.arange(120) % 3
    return RawImages(
        torch.randint(high, (120, 1, 6, 6), generator=generator, dtype=torch.uint8), labels, classes=("a", "b", "c")
    )


def dataset(load, **more):
    return DatasetRecord(name="mine", title="Mine", summary="under test", load=load, **more)


class ChangingImages:
    """Different images at every call."""

    def __init__(self):
        self.calls = 0

    def __call__(self, params, data_dir):
        self.calls += 1
        return images(self.calls)


def floats(params, data_dir):
    return replace(images(), images=torch.rand(120, 1, 6, 6))


def unlabelled_class(params, data_dir):
    return replace(images(), classes=("a", "b", "c", "never"))


def prints_on_loading(params, data_dir):
    print("loading")
    return images()


DATASET_DEFECTS = [
    (datasets.images_load, dataset(lambda params, data_dir: images(high=2)), "were they scaled"),
    (
        datasets.images_load,
        dataset(floats),
        "uint8",
    ),
    (datasets.images_load, dataset(unlabelled_class), "never"),
    (datasets.deterministic_loading, dataset(ChangingImages()), "they are"),
    (datasets.no_side_effects, dataset(prints_on_loading), "printed"),
    (datasets.strict_parameters, dataset(lambda params, data_dir: images(), params=LaxParams), "accepted"),
]


@pytest.mark.parametrize(
    ("check", "defective", "actual"), DATASET_DEFECTS, ids=lambda value: getattr(value, "name", None)
)
def test_a_defective_data_set_is_found(check, defective, actual, tmp_path):
    result = check(DatasetUnderTest(defective, tmp_path))
    assert not result.ok
    assert actual in result.actual
    twin = dataset(lambda params, data_dir: images())
    assert check(DatasetUnderTest(twin, tmp_path)).message == ""
