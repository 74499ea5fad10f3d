"""What the registry holds: records with the plugin they come from, and the plugins that failed."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from aebench.contracts import (
    AutoencoderRecord,
    BackboneRecord,
    DatasetRecord,
    SamplerRecord,
    Skip,
    StudyRecord,
    TaskRecord,
    UnavailableRecord,
)
from aebench.errors import AebenchError

R = TypeVar("R")
Origin = tuple[str, str]  # distribution and name of an entry point


@dataclass(frozen=True)
class Registered(Generic[R]):
    """A record and the plugin it comes from.

    Attributes:
        record: what the plugin registered.
        module: name of the module that the plugin's entry point names.
        distribution, version: of the plugin; without a distribution, the module's name and an empty version.
    """

    record: R
    module: str
    distribution: str
    version: str


@dataclass(frozen=True)
class PluginFailure:
    """Why a plugin could not be loaded.

    Attributes:
        distribution, version, entry_point: which plugin.
        stage: select (chosen by name but not installed), requirements (a dependency is missing, or it needs another
            version of aebench), load (importing the module), register and check (its hooks), or collect (the records
            that the hooks return).
        message: what was wrong, in one line.
        traceback: of the exception behind it; empty if there was none.
        output: what the plugin printed while it was loaded.
    """

    distribution: str
    version: str
    entry_point: str
    stage: str
    message: str
    traceback: str = ""
    output: str = ""


@dataclass(frozen=True)
class SideEffect:
    """What the plugins of a distribution changed for the whole process while they were loaded; it has been restored."""

    distribution: str
    what: str


@dataclass(frozen=True)
class Registry:
    """All records by name, in alphabetical order, the plugins that failed, and the side effects of loading."""

    autoencoders: Mapping[str, Registered[AutoencoderRecord]]
    tasks: Mapping[str, Registered[TaskRecord]]
    datasets: Mapping[str, Registered[DatasetRecord]]
    backbones: Mapping[str, Registered[BackboneRecord]] = field(default_factory=dict)
    samplers: Mapping[str, Registered[SamplerRecord]] = field(default_factory=dict)
    studies: Mapping[str, Registered[StudyRecord]] = field(default_factory=dict)
    unavailable: Mapping[str, Registered[UnavailableRecord]] = field(default_factory=dict)
    failures: tuple[PluginFailure, ...] = ()
    side_effects: tuple[SideEffect, ...] = ()

    @property
    def broken(self) -> frozenset[Origin]:
        """The plugins that failed, for another process to leave out."""
        return frozenset((failure.distribution, failure.entry_point) for failure in self.failures)

    def changed_by_loading(self) -> dict[str, list[str]]:
        """By distribution, what its plugins changed for the whole process while they were loaded."""
        changed: dict[str, list[str]] = {}
        for side_effect in self.side_effects:
            changed.setdefault(side_effect.distribution, []).append(side_effect.what)
        return changed

    def autoencoder(self, name: str) -> Registered[AutoencoderRecord]:
        """The model of this name; raises AebenchError when there is none, or when it is unavailable."""
        if name not in self.autoencoders and name in self.unavailable:
            raise AebenchError(f"model '{name}' is unavailable: it {self.unavailable[name].record.reason}")
        return _look_up(self.autoencoders, name, "model", "models")

    def task(self, name: str) -> Registered[TaskRecord]:
        """The task of this name; raises AebenchError when there is none."""
        return _look_up(self.tasks, name, "task", "tasks")

    def backbone(self, name: str) -> Registered[BackboneRecord]:
        """The backbone of this name; raises AebenchError when there is none."""
        return _look_up(self.backbones, name, "backbone", "backbones")

    def sampler(self, name: str) -> Registered[SamplerRecord]:
        """The sampler of this name; raises AebenchError when there is none."""
        return _look_up(self.samplers, name, "sampler", "samplers")

    def samplers_for(self, model: AutoencoderRecord, names: Iterable[str]) -> dict[str, SamplerRecord | Skip]:
        """The samplers of these names, or why the model has no such samples; raises as `sampler` does."""
        records = [self.sampler(name).record for name in names]
        return {record.name: record.supports(model) or record for record in records}

    def dataset(self, name: str) -> Registered[DatasetRecord]:
        """The data set of this name; raises AebenchError when there is none."""
        return _look_up(self.datasets, name, "data set", "datasets")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: `; did you mean 'this'?`, or a full stop when none is near."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{near[0]}'?" if near else "."


def _look_up(records: Mapping[str, R], name: str, kind: str, plural: str) -> R:
    if name in records:
        return records[name]
    raise AebenchError(
        f"{kind} '{name}' is not registered{did_you_mean(name, records)} Available: {', '.join(records) or 'none'}. "
        f"See 'aebench list {plural}'."
    )
