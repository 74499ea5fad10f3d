"""What to run: the benchmark's configuration, validated against the plugins that are installed."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, TypeVar

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from aebench.contracts import AutoencoderRecord, DatasetRecord, TaskRecord
from aebench.errors import AebenchError
from aebench.registry.loading import Registered, Registry, did_you_mean

R = TypeVar("R", AutoencoderRecord, TaskRecord, DatasetRecord)
M = TypeVar("M", bound=BaseModel)
Lookup = Callable[[str], Registered[R]]

Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Choice(_Section):
    """A plugin by name, with parameters that differ from its defaults; a bare string is just the name."""

    name: str
    params: dict[str, Any] = {}


class ModelChoice(Choice):
    """A model in the matrix; `label` names its row when one model enters with several parameters."""

    label: Label | None = None


def _name_only(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


def _distinct(classes: tuple[int, ...]) -> tuple[int, ...]:
    if len(set(classes)) < len(classes):
        raise ValueError("a class is listed twice")
    return classes


ClassIndex = Annotated[int, Field(ge=0)]
ClassIndices = Annotated[tuple[ClassIndex, ...], Field(min_length=1), AfterValidator(_distinct)]


class Profile(_Section):
    """How a model is trained for some tasks: the width of the code, and the class left out of training.

    `held_out` is one class, several, or "all" of them; each one is left out of a training of its own.
    """

    latent_dim: int = Field(gt=0)
    held_out: ClassIndex | ClassIndices | Literal["all"] | None = None


class TrainingSettings(_Section):
    """The budget every model gets: Adam for `epochs` passes; `batch_size` None means the data set's own.

    `precision` is that of the matrix products in training: fp32, bf16, or auto for bf16 where a CPU has it in hardware.
    """

    epochs: int = Field(default=60, gt=0)
    batch_size: int | None = Field(default=None, gt=1)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    precision: Literal["fp32", "bf16", "auto"] = "fp32"


DEFAULT_PROFILES = {
    "general": Profile(latent_dim=20),
    "anomaly": Profile(latent_dim=2, held_out=1),
}


class BenchmarkConfig(_Section):
    """The whole benchmark; every field has a default, which together are the article's protocol on `digits`.

    Attributes:
        dataset: the data set.
        models: the rows of the matrix; None for all registered.
        tasks: the columns; None for all registered.
        seeds: repetitions, each with its own initialisation, batches and noise on the same splits.
        seed: the suite's seed, from which all others are derived.
        training: the budget.
        profiles: the trainings tasks can ask for, by name, beside or instead of the default ones.
    """

    dataset: Annotated[Choice, BeforeValidator(_name_only)] = Choice(name="digits")
    models: tuple[Annotated[ModelChoice, BeforeValidator(_name_only)], ...] | None = Field(default=None, min_length=1)
    tasks: tuple[Annotated[Choice, BeforeValidator(_name_only)], ...] | None = Field(default=None, min_length=1)
    seeds: int = Field(default=1, gt=0)
    seed: int = Field(default=42, ge=0)
    training: TrainingSettings = TrainingSettings()
    profiles: dict[str, Profile] = {}

    @property
    def all_profiles(self) -> dict[str, Profile]:
        """The default profiles with the configured ones beside or instead of them."""
        return DEFAULT_PROFILES | self.profiles


@dataclass(frozen=True)
class Selected(Generic[R]):
    """A plugin chosen for this benchmark, with validated parameters."""

    label: str
    plugin: Registered[R]
    params: Any

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


KeyPath = tuple[str, ...]


def load_benchmark(
    registry: Registry, file: Path | None = None, overrides: Mapping[KeyPath, Any] | None = None
) -> Benchmark:
    """Read, merge and validate a configuration.

    Args:
        registry: the installed plugins.
        file: a YAML file; without one, the defaults.
        overrides: values that win over the file's, by key path; the last key is the option's name in messages.

    Raises:
        AebenchError: with one line for every mistake found in the whole configuration.
    """
    overrides = overrides or {}
    data = _read_yaml(file) if file else {}
    for path, value in overrides.items():
        section: Any = data
        for key in path[:-1]:
            section[key] = section.get(key) or {}
            section = section[key]
            if not isinstance(section, dict):
                break  # the envelope says what is wrong with it
        else:
            section[path[-1]] = value

    problems = _Problems(file, overrides)
    config = problems.parse(BenchmarkConfig, data, ())
    dataset = _select(registry.dataset, Choice, data.get("dataset", "digits"), ("dataset",), problems)
    models = _select_all(registry.autoencoder, registry.autoencoders, ModelChoice, data, "models", problems)
    tasks = _select_all(registry.task, registry.tasks, Choice, data, "tasks", problems)
    if config is not None:
        for task in tasks:
            if task.record.profile not in config.all_profiles:
                problems.add(
                    ("profiles",),
                    f"task '{task.record.name}' needs a profile '{task.record.profile}', which is missing",
                )
    problems.raise_any()
    assert config is not None
    assert dataset is not None
    return Benchmark(config, dataset, models, tasks)


class _Problems:
    """Collects mistakes, each with the place it came from, so that all are reported at once."""

    def __init__(self, file: Path | None, overrides: Mapping[KeyPath, Any]) -> None:
        self._file = file
        self._overrides = overrides
        self._lines: list[str] = []

    def add(self, location: tuple[str | int, ...], message: str) -> None:
        line = f"{self._place(location)}: {message}"
        if line not in self._lines:
            self._lines.append(line)

    def parse(self, model: type[M], value: Any, location: tuple[str | int, ...]) -> M | None:
        """`value` as a `model`, or None after noting everything that is wrong with it."""
        try:
            return model.model_validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                self.add((*location, *_clean(detail["loc"])), _describe(model, detail))
            return None

    def raise_any(self) -> None:
        if self._lines:
            raise AebenchError("\n".join(self._lines))

    def _place(self, location: tuple[str | int, ...]) -> str:
        for path in self._overrides:
            if location[: len(path)] == path:
                return f"--{path[-1]}"
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")
        return f"{self._file}: {dotted}" if self._file else dotted


def _select_all(
    look_up: Lookup[R],
    registered: Mapping[str, Registered[R]],
    choice: type[Choice],
    data: Mapping[str, Any],
    key: str,
    problems: _Problems,
) -> tuple[Selected[R], ...]:
    given = data.get(key)
    if given is not None and not isinstance(given, list):
        return ()  # the envelope has said so
    values = list(registered) if given is None else given
    if not values and given is None:
        problems.add((key,), f"no {key} are registered; see 'aebench list failures'")
    selected = [_select(look_up, choice, value, (key, i), problems) for i, value in enumerate(values)]
    labels = [item.label for item in selected if item is not None]
    for label in sorted({label for label in labels if labels.count(label) > 1}):
        hint = "; give them different labels" if choice is ModelChoice else ""
        problems.add((key,), f"'{label}' is listed {labels.count(label)} times{hint}")
    return tuple(item for item in selected if item is not None)


def _select(
    look_up: Lookup[R], choice: type[Choice], value: Any, location: tuple[str | int, ...], problems: _Problems
) -> Selected[R] | None:
    try:
        chosen = choice.model_validate_json(json.dumps(_name_only(value), default=str))
    except ValidationError:
        return None  # the envelope has said so
    try:
        plugin = look_up(chosen.name)
    except AebenchError as error:
        problems.add(location, str(error))
        return None
    params = problems.parse(plugin.record.params, chosen.params, (*location, "params"))
    if params is None:
        return None
    label = chosen.label if isinstance(chosen, ModelChoice) and chosen.label else chosen.name
    return Selected(label, plugin, params)


def _clean(location: tuple[str | int, ...]) -> tuple[str | int, ...]:
    """Without the parts pydantic adds for validator functions."""
    return tuple(key for key in location if isinstance(key, int) or "function-" not in key)


def _describe(model: type[BaseModel], detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        return f"unknown key{did_you_mean(str(detail['loc'][-1]), known)} Known: {', '.join(known) or 'none'}"
    message = str(detail["msg"])
    if detail["type"] == "missing":
        return "is required"
    return f"{message[0].lower()}{message[1:]}, got {detail['input']!r}"


def _fields_at(model: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Names of the fields of the nested section at `location`."""
    schema = model.model_json_schema()
    node: Any = schema
    for key in location:
        node = _resolve(schema, node)
        if isinstance(key, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(key) or node.get("additionalProperties", {})
    return list(_resolve(schema, node).get("properties", {}))


def _resolve(schema: Any, node: Any) -> Any:
    """Follow `$ref`, and take the structured branch of an optional field."""
    while isinstance(node, dict) and ("$ref" in node or "anyOf" in node):
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        else:
            node = next(branch for branch in node["anyOf"] if branch.get("type") != "null")
    return node


def _read_yaml(file: Path) -> dict[str, Any]:
    try:
        data = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise AebenchError(f"{file}: cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise AebenchError(f"{file}: is not YAML: {' '.join(str(error).split())}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise AebenchError(f"{file}: expected keys such as 'dataset' and 'models', got a {type(data).__name__}")
    return {str(key): value for key, value in data.items()}
