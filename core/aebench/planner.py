"""Lays out the matrix: a benchmark and a data set become trainings and cells, each with a content hash. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import aebench
from aebench.config import Benchmark, Profile, Selected
from aebench.contracts import AutoencoderRecord, DatasetInfo, TaskRecord
from aebench.errors import AebenchError
from aebench.seeds import content_hash, derive_seed

# What the core itself contributes to a result; a change here makes earlier results stale.
CORE_SOURCES = (
    "contracts/*.py",
    "bottlenecks.py",
    "linear.py",
    "networks.py",
    "planner.py",
    "seeds.py",
    "training.py",
    "work.py",
)


@dataclass(frozen=True)
class Training:
    """One model to be trained once, for all tasks that share its profile.

    Attributes:
        label: the row of the matrix.
        model: registered name of the model, with its parameters as JSON values.
        profile: name of the profile; `latent_dim` and `held_out` are its content.
        seed: which repetition, from 0.
        epochs, batch_size, learning_rate: the budget.
        precision: "fp32" or "bf16", of the matrix products.
        suite_seed: what all seeds are derived from.
        hash: over everything that can change the trained weights.
    """

    label: str
    model: str
    params: Mapping[str, Any] = field(hash=False)
    profile: str
    latent_dim: int
    held_out: int | None
    seed: int
    epochs: int
    batch_size: int
    learning_rate: float
    precision: str
    suite_seed: int
    hash: str

    @property
    def initialisation_seed(self) -> int:
        """Seed of the initial weights: 42, 43, ..., the first one being the article's.

        It is the same for all models, so that networks of one shape start from the same weights.
        """
        return self.suite_seed + self.seed

    def derived_seed(self, use: str) -> int:
        """Seed for any other randomness of this training alone, such as its noise."""
        return derive_seed(self.suite_seed, use=use, model=self.model, profile=self.profile, seed=self.seed)

    @property
    def batches_seed(self) -> int:
        """Seed of the order of the images: the same for all models, so that repetitions are paired."""
        return derive_seed(self.suite_seed, use="batches", profile=self.profile, seed=self.seed)


@dataclass(frozen=True)
class Cell:
    """One task asked of one training; `skip` says why it will not be, `hash` covers all that can change its result."""

    training: Training
    task: str
    params: Mapping[str, Any] = field(hash=False)
    seed: int
    hash: str
    skip: str | None = None


@dataclass(frozen=True)
class Plan:
    """The matrix, in the order in which it is shown."""

    dataset: DatasetInfo
    models: tuple[Selected[AutoencoderRecord], ...]
    tasks: tuple[Selected[TaskRecord], ...]
    seeds: int
    suite_seed: int
    cells: tuple[Cell, ...]

    @cached_property
    def matrix(self) -> str:
        """Identity of the whole matrix: the same cells give the same matrix."""
        return content_hash([(cell.training.label, cell.task, cell.hash) for cell in self.cells])

    @cached_property
    def trainings(self) -> tuple[Training, ...]:
        """The trainings that some cell needs, each once."""
        return tuple(dict.fromkeys(cell.training for cell in self.cells if cell.skip is None))


def plan(benchmark: Benchmark, dataset: DatasetInfo, precision: str = "fp32") -> Plan:
    """Pair every model with every task, for every seed, all trained in one precision ("fp32" or "bf16").

    Raises:
        AebenchError: the held-out class of a profile in use is not a class of the data set.
    """
    config = benchmark.config
    cells = []
    for model in benchmark.models:
        for seed in range(config.seeds):
            for task in benchmark.tasks:
                skip = task.record.supports(model.record, dataset)
                profile = config.all_profiles[task.record.profile]
                if skip is None:
                    _check_held_out(task.record.profile, profile, dataset)
                training = _training(benchmark, model, task.record.profile, profile, seed, dataset, precision)
                cells.append(_cell(training, task, config.seed, skip.reason if skip else None))
    return Plan(dataset, benchmark.models, benchmark.tasks, config.seeds, config.seed, tuple(cells))


def _training(
    benchmark: Benchmark,
    model: Selected[AutoencoderRecord],
    profile_name: str,
    profile: Profile,
    seed: int,
    dataset: DatasetInfo,
    precision: str,
) -> Training:
    settings = benchmark.config.training
    content: dict[str, Any] = {
        "model": model.record.name,
        "params": model.params.model_dump(mode="json"),
        "profile": profile_name,
        "latent_dim": profile.latent_dim,
        "held_out": profile.held_out,
        "seed": seed,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size or dataset.batch_size,
        "learning_rate": settings.learning_rate,
        "precision": precision,
        "suite_seed": benchmark.config.seed,
    }
    provenance = {"plugin": model.plugin.provenance, "dataset": dataset.fingerprint, "core": core_provenance()}
    return Training(label=model.label, **content, hash=content_hash(content | provenance))


def _cell(training: Training, task: Selected[TaskRecord], suite_seed: int, skip: str | None) -> Cell:
    params = task.params.model_dump(mode="json")
    seed = derive_seed(suite_seed, use="evaluation", task=task.record.name, seed=training.seed)
    content = {"training": training.hash, "task": task.record.name, "params": params, "seed": seed}
    return Cell(training, task.record.name, params, seed, content_hash(content | task.plugin.provenance), skip)


def _check_held_out(name: str, profile: Profile, dataset: DatasetInfo) -> None:
    if profile.held_out is not None and not profile.held_out < len(dataset.classes):
        raise AebenchError(
            f"profiles.{name}.held_out: class {profile.held_out} is not in {dataset.name}, "
            f"whose classes are 0..{len(dataset.classes) - 1}"
        )


@cache
def core_provenance() -> str:
    """aebench's version and a hash over the sources that take part in training and evaluation."""
    root = Path(aebench.__file__).parent
    digest = hashlib.sha256(aebench.__version__.encode())
    for pattern in CORE_SOURCES:
        for file in sorted(root.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
