"""Turns a benchmark and a data set into trainings and cells, each with a content hash."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aebench.contracts import AutoencoderRecord, DatasetInfo, Likelihood, TaskRecord, default_likelihood
from aebench.errors import AebenchError
from aebench.planning.benchmark import Benchmark, Selected
from aebench.planning.config import Profile
from aebench.planning.provenance import Provenance, evaluation_provenance, training_provenance
from aebench.planning.seeds import content_hash, derive_seed
from aebench.planning.specs import EvaluationSpec, TrainingSpec

MOST_CELLS = 200_000  # a plan of this size takes about a minute


@dataclass(frozen=True)
class Plan:
    """The matrix, in the order in which it is shown."""

    dataset: DatasetInfo
    models: tuple[Selected[AutoencoderRecord], ...]
    tasks: tuple[Selected[TaskRecord], ...]
    seeds: int
    suite_seed: int
    likelihood: Likelihood
    cells: tuple[EvaluationSpec, ...]

    @cached_property
    def matrix(self) -> str:
        """Identity of the whole matrix: the same cells give the same matrix, in whichever order they are listed."""
        return content_hash(sorted((cell.training.label, cell.task, cell.hash) for cell in self.cells))

    @cached_property
    def trainings(self) -> tuple[TrainingSpec, ...]:
        """The trainings that some cell needs, each once."""
        return tuple(dict.fromkeys(cell.training for cell in self.cells if cell.skip is None))


@dataclass(frozen=True)
class _Conditions:
    """What all trainings of a plan share."""

    benchmark: Benchmark
    dataset: DatasetInfo
    precision: str
    device_kind: str
    likelihood: Likelihood


def plan(benchmark: Benchmark, dataset: DatasetInfo, precision: str = "fp32", device_kind: str = "cpu") -> Plan:
    """Pair every model with every task, for every seed.

    Args:
        benchmark: what to run.
        dataset: the data it runs on.
        precision: of all trainings, "fp32" or "bf16".
        device_kind: of the device that trains and evaluates, "cpu" or "cuda".

    Raises:
        AebenchError: the held-out class of a profile in use is not a class of the data set, the data set has no
            validation images for early stopping or images too small for a backbone, there are more than MOST_CELLS
            cells, or the source of a plugin cannot be found.
    """
    config = benchmark.config
    if config.training.early_stopping and not dataset.sizes[1]:
        raise AebenchError(f"training.early_stopping: {dataset.name} has no validation images")
    _check_sizes(benchmark, dataset)
    likelihood = config.likelihood or default_likelihood(dataset.input_shape)
    conditions = _Conditions(benchmark, dataset, precision, device_kind, likelihood)
    _check_number_of_cells(benchmark, dataset)
    task_provenances = [evaluation_provenance(task.plugin, task.samplers) for task in benchmark.tasks]
    cells = []
    for model in benchmark.models:
        model_provenance = training_provenance(model.plugin, model.backbone)
        for seed in range(config.seeds):
            for task, task_provenance in zip(benchmark.tasks, task_provenances, strict=True):
                skip = task.record.supports(model.record, dataset)
                name = task.record.profile
                classes = (None,) if skip else _held_out_classes(name, config.all_profiles[name], dataset)
                for held_out in classes:
                    training = _training(conditions, model, model_provenance, name, held_out, len(classes) > 1, seed)
                    cells.append(_cell(training, task, task_provenance, skip.reason if skip else None))
    return Plan(dataset, benchmark.models, benchmark.tasks, config.seeds, config.seed, likelihood, tuple(cells))


def _check_number_of_cells(benchmark: Benchmark, dataset: DatasetInfo) -> None:
    config, models = benchmark.config, len(benchmark.models)
    held_out = [config.all_profiles[task.record.profile].held_out for task in benchmark.tasks]
    evaluations = sum(
        len(dataset.classes) or 1 if classes == "all" else len(classes) if isinstance(classes, tuple) else 1
        for classes in held_out
    )
    cells = models * config.seeds * evaluations
    if cells > MOST_CELLS:
        raise AebenchError(
            f"the matrix has {cells:,} cells ({models} models, {config.seeds} seeds, {evaluations} evaluations of each "
            f"with every held-out class); the limit is {MOST_CELLS:,}"
        )


def _check_sizes(benchmark: Benchmark, dataset: DatasetInfo) -> None:
    _, height, width = dataset.input_shape
    for backbone in (model.backbone.record for model in benchmark.models if model.backbone is not None):
        side = backbone.smallest_side
        if min(height, width) < side:
            raise AebenchError(
                f"backbones: {backbone.name} needs images of at least {side}x{side} pixels, "
                f"those of {dataset.name} have {height}x{width}"
            )


def _training(
    conditions: _Conditions,
    model: Selected[AutoencoderRecord],
    provenance: Provenance,
    profile: str,
    held_out: int | None,
    in_rotation: bool,
    seed: int,
) -> TrainingSpec:
    config, dataset = conditions.benchmark.config, conditions.dataset
    epochs = model.training.epochs or config.training.epochs
    batch_size = model.training.batch_size or config.training.batch_size or dataset.batch_size
    optimizer = model.training.optimizer or config.training.optimizer
    content: dict[str, Any] = {
        "model": model.record.name,
        "params": model.params.model_dump(mode="json"),
        "backbone": model.backbone and model.backbone.record.name,
        "profile": profile,
        "latent_dim": config.all_profiles[profile].latent_dim,
        "held_out": held_out,
        "seed": seed,
        "epochs": epochs,
        "batch_size": batch_size,
        "optimizer": optimizer,
        "likelihood": conditions.likelihood,
        "patience": config.training.early_stopping and config.training.early_stopping.patience,
        "precision": conditions.precision,
        "device_kind": conditions.device_kind,
        "suite_seed": config.seed,
    }
    hashed = content_hash(
        {
            **content,
            "optimizer": optimizer.model_dump(mode="json"),
            "likelihood": conditions.likelihood.model_dump(mode="json"),
            "dataset": dataset.fingerprint,
            "provenance": provenance,
        }
    )
    return TrainingSpec(label=model.label, in_rotation=in_rotation, **content, hash=hashed)


def _cell(
    training: TrainingSpec, task: Selected[TaskRecord], provenance: Provenance, skip: str | None
) -> EvaluationSpec:
    name, params = task.record.name, task.params.model_dump(mode="json")
    seed = derive_seed(training.suite_seed, use="evaluation", task=name, seed=training.seed)
    content = {"training": training.hash, "task": name, "params": params, "seed": seed, "provenance": provenance}
    return EvaluationSpec(training, name, params, seed, content_hash(content), skip)


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
