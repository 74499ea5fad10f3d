"""A small part of `digits` and a classifier of it: the data that the checks run on."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from aebench.contracts import ImageDataset
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, train_reference_classifier
from aebench.planning.seeds import splits_seed
from aebench.registry.loading import create_registry

SUITE_SEED = 42
SIZES = (300, 80, 150)  # images in the train, validation and test splits


@cache
def small_reference_classifier() -> ConvolutionalClassifier:
    """A reference classifier of the small digits, trained in a few seconds."""
    return train_reference_classifier(small_digits(), steps=200)


@cache
def small_digits() -> ImageDataset:
    """The first images of each split of `digits`: enough for every task, and trained on in a second."""
    record = create_registry().dataset("digits").record
    data = load_dataset(record, record.params(), Path(), splits_seed(SUITE_SEED))
    splits = (data.train, data.validation, data.test)
    cut = (split.at(slice(n)) for split, n in zip(splits, SIZES, strict=True))
    return ImageDataset(data.name, data.title, data.classes, data.batch_size, *cut)
