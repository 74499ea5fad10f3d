"""Entry points -> records. Whatever goes wrong with a plugin becomes data, and costs that plugin alone."""

from __future__ import annotations

import difflib
import hashlib
import importlib.metadata
import math
import os
import re
import sys
import traceback
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Generic, TypeVar

import pluggy

from aebench import hookspecs
from aebench.contracts import AutoencoderRecord, DatasetRecord, StudyRecord, TaskRecord
from aebench.errors import AebenchError
from aebench.registry.guard import StageError, guarded
from aebench.registry.requirements import check_requirements

ENTRY_POINT_GROUP = "aebench"
LOAD_PLUGINS_VARIABLE = "AEBENCH_LOAD_PLUGINS"
CORE_DISTRIBUTION = "aebench"

R = TypeVar("R")
Origin = tuple[str, str]  # distribution and name of an entry point

RECORD_OF_HOOK = {
    "aebench_autoencoders": AutoencoderRecord,
    "aebench_tasks": TaskRecord,
    "aebench_datasets": DatasetRecord,
    "aebench_studies": StudyRecord,
}


@dataclass(frozen=True)
class Registered(Generic[R]):
    """A record and where it comes from; `code` is a hash of the plugin's source files."""

    record: R
    distribution: str
    version: str
    code: str

    @property
    def provenance(self) -> dict[str, str]:
        """All that tells one state of a plugin from another, for content hashes."""
        return {"distribution": self.distribution, "version": self.version, "code": self.code}


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
    """

    distribution: str
    version: str
    entry_point: str
    stage: str
    message: str
    traceback: str = ""


@dataclass(frozen=True)
class Registry:
    """All records by name, in alphabetical order, and the plugins that failed to bring theirs."""

    autoencoders: Mapping[str, Registered[AutoencoderRecord]]
    tasks: Mapping[str, Registered[TaskRecord]]
    datasets: Mapping[str, Registered[DatasetRecord]]
    failures: tuple[PluginFailure, ...] = ()
    studies: Mapping[str, Registered[StudyRecord]] = field(default_factory=dict)

    @property
    def broken(self) -> frozenset[Origin]:
        """The plugins that failed, for another process to leave out."""
        return frozenset((failure.distribution, failure.entry_point) for failure in self.failures)

    def autoencoder(self, name: str) -> Registered[AutoencoderRecord]:
        return _look_up(self.autoencoders, name, "model", "models")

    def task(self, name: str) -> Registered[TaskRecord]:
        return _look_up(self.tasks, name, "task", "tasks")

    def dataset(self, name: str) -> Registered[DatasetRecord]:
        return _look_up(self.datasets, name, "data set", "datasets")


def create_registry(
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None, without: Collection[Origin] = ()
) -> Registry:
    """Load every plugin and collect what it registers.

    Args:
        entry_points: what to load; by default the installed ones in group "aebench", narrowed by the environment
            variable AEBENCH_LOAD_PLUGINS (unset: all; empty: none; else a comma-separated list of distributions).
        without: plugins not to try, because another process has seen them fail.
    """
    failures: list[PluginFailure] = []
    if entry_points is None:
        entry_points, failures = _selected_entry_points()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    collected: dict[str, dict[str, Registered[Any]]] = {hook: {} for hook in RECORD_OF_HOOK}
    for entry_point in entry_points:
        distribution, version = _origin(entry_point)
        if (distribution, entry_point.name) in without:
            continue
        try:
            found = _load(manager, entry_point, collected)
        except StageError as error:
            cause = error.__cause__
            trace = "".join(traceback.format_exception(cause)) if cause is not None else ""
            failures.append(PluginFailure(distribution, version, entry_point.name, error.stage, str(error), trace))
        else:
            for hook, records in found.items():
                collected[hook] |= records
    autoencoders, tasks, datasets, studies = (dict(sorted(collected[hook].items())) for hook in RECORD_OF_HOOK)
    return Registry(autoencoders, tasks, datasets, tuple(failures), studies)


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


def _selected_entry_points() -> tuple[list[importlib.metadata.EntryPoint], list[PluginFailure]]:
    found = {
        (_origin(entry_point)[0], entry_point.name): entry_point
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    }
    chosen = os.environ.get(LOAD_PLUGINS_VARIABLE)
    failures: list[PluginFailure] = []
    if chosen is not None:
        wanted = {_normalised(name) for name in chosen.split(",") if name.strip()}
        installed = {_normalised(distribution) for distribution, _ in found}
        failures = [
            PluginFailure(
                name, "", "", "select", f"{LOAD_PLUGINS_VARIABLE} names '{name}', which is not an installed plugin"
            )
            for name in sorted(wanted - installed)
        ]
        keep = wanted | {CORE_DISTRIBUTION}
        found = {key: value for key, value in found.items() if _normalised(key[0]) in keep}
    # Whoever was installed first keeps a name that another claims later.
    return [found[key] for key in sorted(found, key=lambda key: (_installed_at(found[key]), *key))], failures


def _load(
    manager: pluggy.PluginManager,
    entry_point: importlib.metadata.EntryPoint,
    taken: Mapping[str, Mapping[str, Registered[Any]]],
) -> dict[str, dict[str, Registered[Any]]]:
    """One plugin through all stages; rolled back when one fails."""
    distribution, version = _origin(entry_point)
    guarded("requirements", partial(check_requirements, entry_point))
    plugin = guarded("load", entry_point.load)
    name = f"{distribution}:{entry_point.name}"
    try:
        guarded("register", partial(manager.register, plugin, name))
        guarded("check", partial(_check_hooks, manager, plugin))

        def collect() -> dict[str, dict[str, Registered[Any]]]:
            code = _source_hash(sys.modules[entry_point.module])
            origin = (distribution, version, code)
            return {hook: _collect(manager, plugin, hook, taken[hook], origin) for hook in RECORD_OF_HOOK}

        return guarded("collect", collect)
    except StageError:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    manager.check_pending()
    unknown = [hook for hook in vars(plugin) if hook.startswith("aebench_") and _is_foreign_hook(plugin, hook)]
    if unknown:
        raise AebenchError(f"'{unknown[0]}' is not a hook; the hooks are {', '.join(RECORD_OF_HOOK)}")


def _collect(
    manager: pluggy.PluginManager,
    plugin: object,
    hook: str,
    taken: Mapping[str, Registered[Any]],
    origin: tuple[str, str, str],
) -> dict[str, Registered[Any]]:
    """Call one plugin's implementation of one hook, by itself, and check what it returns."""
    found: dict[str, Registered[Any]] = {}
    for implementation in getattr(manager.hook, hook).get_hookimpls():
        if implementation.plugin is not plugin:
            continue
        records = implementation.function()
        if not isinstance(records, list):
            raise AebenchError(f"{hook} must return a list of records, got {type(records).__name__}")
        for record in records:
            expected = RECORD_OF_HOOK[hook]
            if not isinstance(record, expected):
                raise AebenchError(f"{hook} must return {expected.__name__}s, got {type(record).__name__}")
            other = taken.get(record.name) or found.get(record.name)
            if other is not None:
                raise AebenchError(
                    f"'{record.name}' of {origin[0]} {origin[1]} is already registered by "
                    f"{other.distribution} {other.version}; uninstall one of the two"
                )
            found[record.name] = Registered(record, *origin)
    return found


def _is_foreign_hook(plugin: object, name: str) -> bool:
    return name not in RECORD_OF_HOOK and hasattr(getattr(plugin, name), f"{hookspecs.PROJECT}_impl")


def _origin(entry_point: importlib.metadata.EntryPoint) -> tuple[str, str]:
    distribution = entry_point.dist
    return (distribution.name, distribution.version) if distribution else (entry_point.module, "")


def _installed_at(entry_point: importlib.metadata.EntryPoint) -> float:
    """When the distribution was installed, in seconds since the epoch; infinity where that cannot be told."""
    files = entry_point.dist.files if entry_point.dist else None
    for file in files or ():
        if file.name == "METADATA":
            try:
                return Path(str(file.locate())).stat().st_mtime
            except OSError:
                break
    return math.inf


def _normalised(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name.strip()).lower()


def _source_hash(module: ModuleType) -> str:
    """A hash over the source of the module's top-level package, so that an edited plugin is run anew."""
    top = sys.modules[module.__name__.partition(".")[0]]
    if top.__file__ is None:
        return ""
    path = Path(top.__file__)
    files = sorted(path.parent.rglob("*.py")) if path.name == "__init__.py" else [path]
    digest = hashlib.sha256()
    for file in files:
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]
