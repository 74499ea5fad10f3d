"""The inputs of jobs, kept in memory between jobs: the data, with and without a class, and the reference classifier."""

from __future__ import annotations

from functools import lru_cache

import torch

from aebench.contracts import ImageDataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, load_reference_classifier
from aebench.evaluation.unchanged import DataState, ModuleState
from aebench.execution.artifacts import ArtifactStore, Ref

KEPT_DATA = 3  # copies of the data: all of it, and without one class or another


class Inputs:
    """Loads inputs from artifacts onto a device, and loads them again once a job has changed them.

    Args:
        artifacts: where they come from.
        device: where they go.
    """

    def __init__(self, artifacts: ArtifactStore, device: torch.device) -> None:
        self._artifacts = artifacts
        self._device = device
        self._loaded_data = lru_cache(maxsize=KEPT_DATA)(self._load_data)
        self._loaded_classifier = lru_cache(maxsize=1)(self._load_classifier)

    def data(self, ref: Ref, held_out: int | None) -> ImageDataset:
        """The data set, in training and validation without the class `held_out`."""
        return self._loaded_data(ref, held_out)[0]

    def reference_classifier(self, ref: Ref) -> ConvolutionalClassifier:
        """The reference classifier of the data."""
        return self._loaded_classifier(ref)[0]

    def changed(self, data: Ref, held_out: int | None, classifier: Ref | None) -> list[str]:
        """What a job has changed of these inputs, in words; the next job gets the originals."""
        changed = self._loaded_data(data, held_out)[1].changed()
        if classifier is not None:
            changed += [
                f"the reference classifier's {what}" for what in self._loaded_classifier(classifier)[1].changed()
            ]
        if changed:
            self._loaded_data.cache_clear()  # copies without a class share memory with the whole
            self._loaded_classifier.cache_clear()
        return changed

    def _load_data(self, ref: Ref, held_out: int | None) -> tuple[ImageDataset, DataState]:
        if held_out is None:
            data = ImageDataset.open(self._artifacts.path(ref)).to(self._device)
        else:
            data = self.data(ref, None).without_class(held_out)
        return data, DataState(data)

    def _load_classifier(self, ref: Ref) -> tuple[ConvolutionalClassifier, ModuleState]:
        classifier = load_reference_classifier(self._artifacts.path(ref)).to(self._device)
        return classifier, ModuleState(classifier)
