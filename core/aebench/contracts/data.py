"""The data of a benchmark: images in memory as uint8, in three disjoint splits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

IMAGES_AT_ONCE = 256  # that an evaluation on the CPU gives a model: more would not fit into its caches
IMAGES_AT_ONCE_ON_CUDA = 1000  # fewer kernels are launched


def images_at_once_on(device: torch.device) -> int:
    """How many images an evaluation gives a model at once on this device."""
    return IMAGES_AT_ONCE_ON_CUDA if device.type == "cuda" else IMAGES_AT_ONCE


def to_unit_interval(images: Tensor) -> Tensor:
    """uint8 0..255 -> float32 in [0, 1]."""
    return images.float().div_(255)


@dataclass(frozen=True)
class Split:
    """Images and their labels, if they have any.

    Attributes:
        images: (N, C, H, W) uint8.
        labels: (N,) int64 class indices, or None.
        images_at_once: the size of `batches`; smaller after an evaluation has run out of memory.
    """

    images: Tensor
    labels: Tensor | None = None
    images_at_once: int = IMAGES_AT_ONCE

    def __len__(self) -> int:
        return len(self.images)

    def x(self, index: Tensor | slice = slice(None)) -> Tensor:
        """The images at `index`, int64 positions or a slice, as float32 in [0, 1]."""
        # For whole rows index_select copies memory; plain indexing looks up every pixel.
        images = self.images.index_select(0, index) if isinstance(index, Tensor) else self.images[index]
        return to_unit_interval(images)

    def batches(self, size: int | None = None) -> Iterator[Tensor]:
        """All images in order, float32 in [0, 1], `size` at a time; by default `images_at_once`."""
        for images in self.images.split(size or self.images_at_once):
            yield to_unit_interval(images)

    def to(self, device: torch.device | str) -> Split:
        labels = None if self.labels is None else self.labels.to(device)
        return replace(self, images=self.images.to(device), labels=labels)

    def at(self, index: Tensor | slice) -> Split:
        """The images and labels at `index`: int64 positions, a boolean mask (N,), or a slice."""
        labels = None if self.labels is None else self.labels[index]
        return replace(self, images=self.images[index], labels=labels)


@dataclass(frozen=True)
class DatasetInfo:
    """A description of a data set without its pixels, which is all that planning needs.

    Attributes:
        name: as registered.
        title: shown in tables and pictures.
        input_shape: (C, H, W).
        classes: names of the classes by index; empty when there are no labels.
        sizes: images in (train, validation, test).
        batch_size: the default batch size of training.
        fingerprint: SHA-256 of the class names and the pixels and labels of all splits.
    """

    name: str
    title: str
    input_shape: tuple[int, int, int]
    classes: tuple[str, ...]
    sizes: tuple[int, int, int]
    batch_size: int
    fingerprint: str


@dataclass(frozen=True)
class ImageDataset:
    """A data set in three splits: `train` is fitted, `validation` monitored, `test` evaluated."""

    name: str
    title: str
    classes: tuple[str, ...]
    batch_size: int
    train: Split
    validation: Split
    test: Split

    @cached_property
    def info(self) -> DatasetInfo:
        channels, height, width = self.train.images.shape[1:]
        return DatasetInfo(
            name=self.name,
            title=self.title,
            input_shape=(channels, height, width),
            classes=self.classes,
            sizes=(len(self.train), len(self.validation), len(self.test)),
            batch_size=self.batch_size,
            fingerprint=self._fingerprint(),
        )

    def to(self, device: torch.device | str) -> ImageDataset:
        return replace(
            self, train=self.train.to(device), validation=self.validation.to(device), test=self.test.to(device)
        )

    def in_batches_of(self, images_at_once: int) -> ImageDataset:
        """The same data, whose splits have batches of this size."""
        train, validation, test = (replace(split, images_at_once=images_at_once) for _, split in self._splits())
        return replace(self, train=train, validation=validation, test=test)

    def without_class(self, held_out: int) -> ImageDataset:
        """The same data without one class in training and validation; the test split keeps all classes."""

        def drop(split: Split) -> Split:
            assert split.labels is not None, "holding out a class needs labels"
            return split.at(split.labels != held_out)

        return replace(self, train=drop(self.train), validation=drop(self.validation))

    def save(self, path: Path) -> None:
        """Write the data to one safetensors file, which other processes can map into memory."""
        tensors = {f"{name}.images": split.images for name, split in self._splits()}
        tensors |= {f"{name}.labels": split.labels for name, split in self._splits() if split.labels is not None}
        about = {"name": self.name, "title": self.title, "classes": self.classes, "batch_size": self.batch_size}
        save_file({key: value.contiguous() for key, value in tensors.items()}, path, {"about": json.dumps(about)})

    @classmethod
    def open(cls, path: Path) -> ImageDataset:
        """Read a file that `save` wrote."""
        with safe_open(path, framework="pt") as file:
            about = json.loads(file.metadata()["about"])
            keys = set(file.keys())
            splits = {
                name: Split(
                    file.get_tensor(f"{name}.images"),
                    file.get_tensor(f"{name}.labels") if f"{name}.labels" in keys else None,
                )
                for name in ("train", "validation", "test")
            }
        return cls(about["name"], about["title"], tuple(about["classes"]), about["batch_size"], **splits)

    def _splits(self) -> tuple[tuple[str, Split], ...]:
        return ("train", self.train), ("validation", self.validation), ("test", self.test)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for name, split in self._splits():
            digest.update(f"{name}{tuple(split.images.shape)}".encode())
            digest.update(np.ascontiguousarray(split.images.cpu().numpy()).data)
            if split.labels is not None:
                digest.update(np.ascontiguousarray(split.labels.cpu().numpy()).data)
        return digest.hexdigest()


@dataclass(frozen=True)
class RawImages:
    """What a data set's loader returns; the core divides it into splits.

    Attributes:
        images: (N, C, H, W) uint8, the training images.
        labels: (N,) int64 class indices from 0, or None.
        test_images: (M, C, H, W) uint8, the standard test split; None to split off a random one.
        test_labels: (M,) int64; given if and only if both `labels` and `test_images` are.
        classes: names of the classes by index; empty without labels.
    """

    images: Tensor
    labels: Tensor | None = None
    test_images: Tensor | None = None
    test_labels: Tensor | None = None
    classes: tuple[str, ...] = ()
