"""Fixtures for several test modules: the installed plugins, a small data set, and quick trainings on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Generator

from aebench.contracts import Autoencoder, ImageDataset, ModelSpec, default_likelihood
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, train_reference_classifier
from aebench.networks import DENSE
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import Plan, plan
from aebench.planning.seeds import splits_seed
from aebench.registry.loading import create_registry
from aebench.registry.records import Registry
from aebench.training.fitting import fit
from aebench.training.records import Budget


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Use one thread, as a worker does."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def registry() -> Registry:
    return create_registry()


@pytest.fixture(scope="session")
def digits(registry: Registry) -> ImageDataset:
    return load_dataset(
        registry.dataset("digits").record, registry.dataset("digits").record.params(), Path("."), splits_seed(42)
    )


@pytest.fixture(scope="session")
def reference_classifier(digits: ImageDataset) -> ConvolutionalClassifier:
    return train_reference_classifier(digits)


@pytest.fixture(scope="session")
def build(registry: Registry) -> Callable[..., Autoencoder]:
    """build(name, input_shape, latent_dim, **params): a model, initialised from a fixed seed."""

    def build(name: str, input_shape=(1, 8, 8), latent_dim: int = 4, **params) -> Autoencoder:
        record = registry.autoencoder(name).record
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            likelihood = default_likelihood(input_shape)
            return record.build(ModelSpec(input_shape, latent_dim, record.params(**params), DENSE, likelihood))

    return build


@pytest.fixture(scope="session")
def train() -> Callable[..., Autoencoder]:
    """train(model, data, epochs): trained in place with fixed seeds, and returned."""

    def train(model: Autoencoder, data: ImageDataset, epochs: int = 2) -> Autoencoder:
        fit(
            model,
            data,
            Budget(epochs, batch_size=64),
            batches=Generator().manual_seed(1),
            noise=Generator().manual_seed(2),
        )
        return model

    return train


@pytest.fixture(scope="session")
def lay_out(registry: Registry, digits: ImageDataset) -> Callable[..., Plan]:
    """lay_out(models=[...], ...): the plan of a benchmark on digits."""

    def lay_out(**config) -> Plan:
        return plan(load_benchmark(registry, None, {(key,): value for key, value in config.items()}), digits.info)

    return lay_out


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        for item in items:
            if "cuda" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="no CUDA device"))
