"""Loads the entry points of all plugins; a plugin that fails at any stage becomes a `PluginFailure`."""

from __future__ import annotations

import importlib.metadata
import math
import os
import traceback
from collections.abc import Collection, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pluggy
from packaging.utils import canonicalize_name

from aebench import hookspecs
from aebench.contracts import (
    AutoencoderRecord,
    BackboneRecord,
    DatasetRecord,
    SamplerRecord,
    StudyRecord,
    TaskRecord,
    UnavailableRecord,
)
from aebench.contracts.names import NAME_PATTERN, is_name
from aebench.errors import AebenchError
from aebench.registry.guard import Guard, StageError
from aebench.registry.records import Origin, PluginFailure, Registered, Registry, SideEffect
from aebench.registry.requirements import check_requirements

ENTRY_POINT_GROUP = "aebench"
LOAD_PLUGINS_VARIABLE = "AEBENCH_LOAD_PLUGINS"
CORE_DISTRIBUTION = "aebench"
HOOK_PREFIX = "aebench_"  # followed by the field of the registry

RECORD_OF_HOOK = {
    "aebench_autoencoders": AutoencoderRecord,
    "aebench_tasks": TaskRecord,
    "aebench_datasets": DatasetRecord,
    "aebench_backbones": BackboneRecord,
    "aebench_samplers": SamplerRecord,
    "aebench_studies": StudyRecord,
    "aebench_unavailable": UnavailableRecord,
}


def create_registry(
    entry_points: Iterable[importlib.metadata.EntryPoint] | None = None, without: Collection[Origin] = ()
) -> Registry:
    """Load every plugin and collect the records that it registers; a plugin that fails is listed in `failures`.

    What plugins change for the whole process while they are loaded is undone and listed in `side_effects`.

    Args:
        entry_points: those to load; by default the installed ones in the group "aebench" that the environment variable
            AEBENCH_LOAD_PLUGINS selects (unset: all; empty: none; else a comma-separated list of distributions).
        without: plugins to leave out because they failed in another process.
    """
    failures: list[PluginFailure] = []
    side_effects: list[SideEffect] = []
    if entry_points is None:
        entry_points, failures = _selected_entry_points()
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    collected: dict[str, dict[str, Registered[Any]]] = {hook: {} for hook in RECORD_OF_HOOK}
    for entry_point in entry_points:
        distribution, _ = _origin(entry_point)
        if (distribution, entry_point.name) in without:
            continue
        failed: StageError | None = None
        with Guard() as guard:
            try:
                found = _load(manager, entry_point, collected, guard)
            except StageError as error:
                failed = error
        side_effects += [SideEffect(distribution, what) for what in guard.side_effects]
        if failed is None:
            for hook, records in found.items():
                collected[hook] |= records
        else:
            failures.append(_failure(entry_point, failed, guard.output))
    by_kind = {hook.removeprefix(HOOK_PREFIX): dict(sorted(collected[hook].items())) for hook in RECORD_OF_HOOK}
    return Registry(**by_kind, failures=tuple(failures), side_effects=tuple(side_effects))


def _failure(entry_point: importlib.metadata.EntryPoint, error: StageError, output: str) -> PluginFailure:
    cause = error.__cause__
    trace = "".join(traceback.format_exception(cause)) if cause is not None else ""
    return PluginFailure(*_origin(entry_point), entry_point.name, error.stage, str(error), trace, output)


def _selected_entry_points() -> tuple[list[importlib.metadata.EntryPoint], list[PluginFailure]]:
    found = {
        (_origin(entry_point)[0], entry_point.name): entry_point
        for entry_point in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    }
    chosen = os.environ.get(LOAD_PLUGINS_VARIABLE)
    failures: list[PluginFailure] = []
    if chosen is not None:
        selected = {canonicalize_name(name.strip()) for name in chosen.split(",") if name.strip()}
        installed = {canonicalize_name(distribution) for distribution, _ in found}
        failures = [
            PluginFailure(
                name, "", "", "select", f"{LOAD_PLUGINS_VARIABLE} names '{name}', which is not an installed plugin"
            )
            for name in sorted(selected - installed)
        ]
        keep = selected | {CORE_DISTRIBUTION}
        found = {key: value for key, value in found.items() if canonicalize_name(key[0]) in keep}
    # In the order of installation: if two plugins register the same name, the first one keeps it.
    return [found[key] for key in sorted(found, key=lambda key: (_installed_at(found[key]), *key))], failures


def _load(
    manager: pluggy.PluginManager,
    entry_point: importlib.metadata.EntryPoint,
    taken: Mapping[str, Mapping[str, Registered[Any]]],
    guard: Guard,
) -> dict[str, dict[str, Registered[Any]]]:
    """Load and register one plugin and collect its records; unregister it if a stage fails.

    Raises:
        StageError: a stage failed.
    """
    distribution, version = _origin(entry_point)
    guard("requirements", partial(check_requirements, entry_point))
    plugin = guard("load", entry_point.load)
    name = f"{distribution}:{entry_point.name}"
    try:
        guard("register", partial(manager.register, plugin, name))
        guard("check", partial(_check_hooks, manager, plugin))

        def collect() -> dict[str, dict[str, Registered[Any]]]:
            origin = (entry_point.module, distribution, version)
            return {hook: _collect(manager, plugin, hook, taken[hook], origin) for hook in RECORD_OF_HOOK}

        return guard("collect", collect)
    except StageError:
        if manager.has_plugin(name):
            manager.unregister(name=name)
        raise


def _check_hooks(manager: pluggy.PluginManager, plugin: object) -> None:
    manager.check_pending()
    unknown = [hook for hook in vars(plugin) if hook.startswith(HOOK_PREFIX) and _is_foreign_hook(plugin, hook)]
    if unknown:
        raise AebenchError(f"'{unknown[0]}' is not a hook; the hooks are {', '.join(RECORD_OF_HOOK)}")


def _collect(
    manager: pluggy.PluginManager,
    plugin: object,
    hook: str,
    taken: Mapping[str, Registered[Any]],
    origin: tuple[str, str, str],
) -> dict[str, Registered[Any]]:
    """Call one plugin's implementation of one hook and check what it returns."""
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
            if not is_name(record.name):  # of a record that was made without validation
                raise AebenchError(f"{hook}: {record.name!r} is not a name; a name must match {NAME_PATTERN}")
            other = taken.get(record.name) or found.get(record.name)
            if other is not None:
                raise AebenchError(
                    f"'{record.name}' of {origin[1]} {origin[2]} is already registered by "
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
    """When the distribution was installed, in seconds since the epoch; infinity where that is unknown."""
    files = entry_point.dist.files if entry_point.dist else None
    for file in files or ():
        if file.name == "METADATA":
            try:
                return Path(str(file.locate())).stat().st_mtime
            except OSError:
                break
    return math.inf
