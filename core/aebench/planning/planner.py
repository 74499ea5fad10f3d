"""Lays out the matrix: a benchmark and a data set become trainings and cells, each with a content hash. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import aebench
from aebench.contracts import AutoencoderRecord, DatasetInfo, TaskRecord
from aebench.errors import AebenchError
from aebench.planning.benchmark import Benchmark, Selected
from aebench.planning.config import Profile
from aebench.planning.seeds import content_hash, derive_seed
from aebench.planning.specs import EvaluationSpec, TrainingSpec

# What the core itself contributes to trained weights, to evaluations, and to the reference classifier.
# A change there makes earlier results stale, and no others: a new metric is no reason to train again.
TRAINING_SOURCES = (
    "networks/bottlenecks.py",
    "training/building.py",
    "contracts/models.py",
    "contracts/data.py",
    "planning/specs.py",
    "planning/cells.py",
    "networks/linear.py",
    "networks/dense.py",
    "planning/seeds.py",
    "training/steps.py",
    "training/trainer.py",
)
EVALUATION_SOURCES = ("contracts/tasks.py", "execution/work.py")
REFERENCE_CLASSIFIER_SOURCES = ("evaluation/reference_classifier.py",)


@dataclass(frozen=True)
class Plan:
    """The matrix, in the order in which it is shown."""

    dataset: DatasetInfo
    models: tuple[Selected[AutoencoderRecord], ...]
    tasks: tuple[Selected[TaskRecord], ...]
    seeds: int
    suite_seed: int
    cells: tuple[EvaluationSpec, ...]

    @cached_property
    def matrix(self) -> str:
        """Identity of the whole matrix: the same cells give the same matrix."""
        return content_hash([(cell.training.label, cell.task, cell.hash) for cell in self.cells])

    @cached_property
    def trainings(self) -> tuple[TrainingSpec, ...]:
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
                name, profile = task.record.profile, config.all_profiles[task.record.profile]
                classes = (None,) if skip else _held_out_classes(name, profile, dataset)
                for held_out in classes:
                    training = _training(benchmark, model, name, held_out, len(classes) > 1, seed, dataset, precision)
                    cells.append(_cell(training, task, config.seed, skip.reason if skip else None))
    return Plan(dataset, benchmark.models, benchmark.tasks, config.seeds, config.seed, tuple(cells))


def _training(
    benchmark: Benchmark,
    model: Selected[AutoencoderRecord],
    profile: str,
    held_out: int | None,
    rotated: bool,
    seed: int,
    dataset: DatasetInfo,
    precision: str,
) -> TrainingSpec:
    settings = benchmark.config.training
    content: dict[str, Any] = {
        "model": model.record.name,
        "params": model.params.model_dump(mode="json"),
        "profile": profile,
        "latent_dim": benchmark.config.all_profiles[profile].latent_dim,
        "held_out": held_out,
        "seed": seed,
        "epochs": settings.epochs,
        "batch_size": settings.batch_size or dataset.batch_size,
        "learning_rate": settings.learning_rate,
        "precision": precision,
        "suite_seed": benchmark.config.seed,
    }
    provenance = {
        "plugin": model.plugin.provenance,
        "dataset": dataset.fingerprint,
        "core": core_provenance(TRAINING_SOURCES),
    }
    return TrainingSpec(
        label=model.label, in_rotation=rotated, device_kind="cpu", **content, hash=content_hash(content | provenance)
    )


def _cell(training: TrainingSpec, task: Selected[TaskRecord], suite_seed: int, skip: str | None) -> EvaluationSpec:
    params = task.params.model_dump(mode="json")
    seed = derive_seed(suite_seed, use="evaluation", task=task.record.name, seed=training.seed)
    content = {"training": training.hash, "task": task.record.name, "params": params, "seed": seed}
    sources = EVALUATION_SOURCES + (REFERENCE_CLASSIFIER_SOURCES if task.record.needs_reference_classifier else ())
    provenance = {"plugin": task.plugin.provenance, "core": core_provenance(sources)}
    return EvaluationSpec(training, task.record.name, params, seed, content_hash(content | provenance), skip)


def _held_out_classes(name: str, profile: Profile, dataset: DatasetInfo) -> tuple[int | None, ...]:
    """The classes a profile holds out, one training each; (None,) when it holds out none."""
    known = range(len(dataset.classes))
    if profile.held_out is None:
        return (None,)
    if profile.held_out == "all":
        return tuple(known) or (None,)
    classes = (profile.held_out,) if isinstance(profile.held_out, int) else profile.held_out
    for held_out in classes:
        if held_out not in known:
            raise AebenchError(
                f"profiles.{name}.held_out: class {held_out} is not in {dataset.name}, "
                f"whose classes are 0..{len(known) - 1}"
            )
    return classes


@cache
def core_provenance(sources: tuple[str, ...]) -> str:
    """A hash over aebench's version and these of its source files."""
    root = Path(aebench.__file__).parent
    digest = hashlib.sha256(aebench.__version__.encode())
    for source in sources:
        digest.update(Path(root, source).read_bytes())
    return digest.hexdigest()[:16]
