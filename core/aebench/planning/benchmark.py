"""A configuration, validated against the registered plugins, becomes a `Benchmark`."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from pydantic import ValidationError

from aebench.contracts import AutoencoderRecord, BackboneRecord, DatasetRecord, SamplerRecord, TaskRecord
from aebench.contracts.settings import by_name
from aebench.errors import AebenchError
from aebench.planning.config import (
    DEFAULT_BACKBONE,
    BenchmarkConfig,
    Choice,
    ModelChoice,
    OwnTraining,
    TrainingSettings,
)
from aebench.planning.config_errors import ConfigErrors, KeyPath, Location
from aebench.planning.config_file import read_config_file
from aebench.registry.records import Registered, Registry

R = TypeVar("R", AutoencoderRecord, TaskRecord, DatasetRecord, BackboneRecord, SamplerRecord)
Lookup = Callable[[str], Registered[R]]


@dataclass(frozen=True)
class Selected(Generic[R]):
    """A plugin chosen for this benchmark, with validated parameters; `label` names it in the matrix.

    For a model, `training` is what its training does differently from all others, and `backbone` what it is built on;
    None where its networks are its own. `samplers` are those that a task uses.
    """

    label: str
    plugin: Registered[R]
    params: Any
    training: OwnTraining = field(default_factory=OwnTraining)
    backbone: Registered[BackboneRecord] | None = None
    samplers: tuple[Registered[SamplerRecord], ...] = ()

    @property
    def record(self) -> R:
        return self.plugin.record


@dataclass(frozen=True)
class Benchmark:
    """A configuration together with the plugins it names: all that planning needs besides the data."""

    config: BenchmarkConfig
    dataset: Selected[DatasetRecord]
    models: tuple[Selected[AutoencoderRecord], ...]
    tasks: tuple[Selected[TaskRecord], ...]


def load_benchmark(
    registry: Registry, file: Path | None = None, overrides: Mapping[KeyPath, Any] | None = None
) -> Benchmark:
    """Read, merge and validate a configuration.

    Args:
        registry: the installed plugins.
        file: a YAML file; without one, the defaults.
        overrides: values that win over the file's, by key path; the last key is the option's name in messages.

    Raises:
        AebenchError: with one line for every mistake in the whole configuration.
    """
    overrides = overrides or {}
    data = read_config_file(file) if file else {}
    _merge(data, overrides)
    errors = ConfigErrors(file, overrides)
    config = errors.parse(BenchmarkConfig, data, ())
    dataset = _select(registry.dataset, Choice, data.get("dataset", "digits"), ("dataset",), errors)
    models = _select_all(registry.autoencoder, registry.autoencoders, ModelChoice, data, "models", errors)
    backbones = _select_backbones(registry, data, errors)
    models = _rows(models, backbones, errors)
    tasks = _select_all(registry.task, registry.tasks, Choice, data, "tasks", errors)
    tasks = tuple(_with_samplers(task, registry, errors) for task in tasks)
    if config is not None:
        for task in tasks:
            if task.record.profile not in config.all_profiles:
                errors.add(
                    ("profiles",),
                    f"task '{task.record.name}' needs a profile '{task.record.profile}', which is missing",
                )
    errors.raise_any()
    assert config is not None
    assert dataset is not None
    models = tuple(replace(model, training=_differing(model.training, config.training)) for model in models)
    return Benchmark(config, dataset, models, tasks)


def _select_backbones(
    registry: Registry, data: Mapping[str, Any], errors: ConfigErrors
) -> list[Registered[BackboneRecord]]:
    """The backbones that the configuration names; those with mistakes are noted and left out."""
    given = data.get("backbones", [DEFAULT_BACKBONE])
    if not isinstance(given, list):
        return []  # parsing the whole configuration reports it
    found = []
    for position, name in enumerate(given):
        if not isinstance(name, str):
            continue  # parsing the whole configuration reports it
        if name in given[:position]:
            errors.add(("backbones", position), f"'{name}' is listed twice")
            continue
        backbone = _look_up(registry.backbone, name, ("backbones", position), errors)
        if backbone is not None:
            found.append(backbone)
    return found


def _rows(
    models: tuple[Selected[AutoencoderRecord], ...],
    backbones: list[Registered[BackboneRecord]],
    errors: ConfigErrors,
) -> tuple[Selected[AutoencoderRecord], ...]:
    """A row for each model and backbone, with the backbone in its label save the default; one row for own networks."""
    rows = []
    for model in models:
        if model.record.own_networks:
            rows.append(model)
            continue
        for backbone in backbones:
            name = backbone.record.name
            label = model.label if name == DEFAULT_BACKBONE else f"{model.label}_{name}"
            rows.append(replace(model, label=label, backbone=backbone))
    _note_repeated(rows, "models", errors)
    return tuple(rows)


def _with_samplers(task: Selected[TaskRecord], registry: Registry, errors: ConfigErrors) -> Selected[TaskRecord]:
    """The task together with the samplers that it asks for; those that are not registered are noted."""
    location = ("tasks", task.label, "params")
    found = (_look_up(registry.sampler, name, location, errors) for name in task.record.samplers(task.params))
    return replace(task, samplers=tuple(sampler for sampler in found if sampler is not None))


def _differing(own: OwnTraining, common: TrainingSettings) -> OwnTraining:
    """The settings of one model that are not those of all models."""
    given = {name: getattr(own, name) for name in OwnTraining.model_fields}
    return OwnTraining(**{name: value for name, value in given.items() if value != getattr(common, name)})


def _merge(data: dict[str, Any], overrides: Mapping[KeyPath, Any]) -> None:
    """Put the overrides into `data`; one whose section is not a mapping is left for validation to report."""
    for path, value in overrides.items():
        section: Any = data
        for key in path[:-1]:
            section[key] = section.get(key) or {}
            section = section[key]
            if not isinstance(section, dict):
                break
        else:
            section[path[-1]] = value


def _select_all(
    look_up: Lookup[R],
    registered: Mapping[str, Registered[R]],
    choice: type[Choice],
    data: Mapping[str, Any],
    key: str,
    errors: ConfigErrors,
) -> tuple[Selected[R], ...]:
    """The plugins listed under `key`, or all registered ones; those with mistakes are noted and left out."""
    given = data.get(key)
    if given is not None and not isinstance(given, list):
        return ()  # parsing the whole configuration reports it
    values = list(registered) if given is None else given
    if not values and given is None:
        errors.add((key,), f"no {key} are registered; see 'aebench list failures'")
    found = (_select(look_up, choice, value, (key, i), errors) for i, value in enumerate(values))
    selected = tuple(item for item in found if item is not None)
    _note_repeated(selected, key, errors)
    return selected


def _note_repeated(selected: Sequence[Selected[R]], key: str, errors: ConfigErrors) -> None:
    """Note every label that several of the plugins under `key` have."""
    hint = "; give them different labels" if key == "models" else ""
    for label, count in sorted(Counter(item.label for item in selected).items()):
        if count > 1:
            errors.add((key,), f"'{label}' is listed {count} times{hint}")


def _look_up(look_up: Lookup[R], name: str, location: Location, errors: ConfigErrors) -> Registered[R] | None:
    """The plugin of this name; None, with the mistake noted, where there is none."""
    try:
        return look_up(name)
    except AebenchError as error:
        errors.add(location, str(error))
        return None


def _select(
    look_up: Lookup[R], choice: type[Choice], value: Any, location: Location, errors: ConfigErrors
) -> Selected[R] | None:
    try:
        chosen = choice.model_validate_json(json.dumps(by_name(value), default=str))
    except ValidationError:
        return None  # parsing the whole configuration reports it
    plugin = _look_up(look_up, chosen.name, location, errors)
    if plugin is None:
        return None
    params = errors.parse(plugin.record.params, chosen.params, (*location, "params"))
    if params is None:
        return None
    if isinstance(chosen, ModelChoice):
        return Selected(chosen.label or chosen.name, plugin, params, chosen.training)
    return Selected(chosen.name, plugin, params)
