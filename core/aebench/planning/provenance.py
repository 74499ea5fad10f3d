"""What a result depends on besides its parameters and data: code, and versions of libraries."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import NormalizedName, canonicalize_name

from aebench.contracts import AutoencoderRecord, BackboneRecord, SamplerRecord, TaskRecord
from aebench.planning.seeds import content_hash
from aebench.planning.source_code import import_closure, source_hash
from aebench.registry.loading import CORE_DISTRIBUTION, ENTRY_POINT_GROUP
from aebench.registry.records import Registered

# The core's own part in each kind of result is these modules and all that they import.
TRAINING_ROOTS = ("aebench.training.trainer", "aebench.training.building")
EVALUATION_ROOTS = ("aebench.evaluation.evaluate",)
REFERENCE_CLASSIFIER_ROOTS = ("aebench.evaluation.reference_classifier",)

Provenance = Mapping[str, Any]

CORE_LIBRARIES = frozenset({"numpy", "torch"})


def training_provenance(
    plugin: Registered[AutoencoderRecord], backbone: Registered[BackboneRecord] | None
) -> Provenance:
    """What the trained weights of a model on a backbone depend on besides parameters, the data and the device."""
    plugins: list[Registered[Any]] = [plugin] if backbone is None else [plugin, backbone]
    libraries = (declared_libraries(one.distribution) for one in plugins)
    return _provenance((*TRAINING_ROOTS, *(one.module for one in plugins)), CORE_LIBRARIES.union(*libraries))


def evaluation_provenance(
    plugin: Registered[TaskRecord], samplers: Sequence[Registered[SamplerRecord]] = ()
) -> Provenance:
    """What the results of a task that uses these samplers depend on besides its parameters and the trained model."""
    classifier = REFERENCE_CLASSIFIER_ROOTS if plugin.record.needs_reference_classifier else ()
    plugins: list[Registered[Any]] = [plugin, *samplers]
    libraries = (declared_libraries(one.distribution) for one in plugins)
    roots = (*EVALUATION_ROOTS, *classifier, *(one.module for one in plugins))
    return _provenance(roots, CORE_LIBRARIES.union(*libraries))


def reference_classifier_provenance(device_kind: str) -> str:
    """A hash of what the reference classifier depends on besides the data, trained on "cpu" or "cuda"."""
    return content_hash({"device_kind": device_kind, **_provenance(REFERENCE_CLASSIFIER_ROOTS, {"torch"})})


def declared_libraries(distribution: str) -> frozenset[str]:
    """Names of the libraries that a plugin's distribution requires, and that the plugins it requires require.

    Neither aebench nor plugins are among them: their code is hashed. Requirements of extras do not count.
    """
    entry_points = importlib.metadata.entry_points(group=ENTRY_POINT_GROUP)
    plugins = {canonicalize_name(plugin.dist.name) for plugin in entry_points if plugin.dist}
    libraries: set[str] = set()
    seen = {CORE_DISTRIBUTION}
    waiting = [canonicalize_name(distribution)]
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        required = _requirements(name)
        waiting += required & plugins
        libraries |= required - plugins - {CORE_DISTRIBUTION}
    return frozenset(libraries)


def _provenance(roots: Iterable[str], libraries: Iterable[str]) -> Provenance:
    versions = {name: _version(name) for name in sorted(libraries)}
    return {"code": source_hash(import_closure(*roots)), "versions": versions}


def _requirements(distribution: str) -> set[NormalizedName]:
    """Canonical names of what a distribution requires here; none for a module without a distribution."""
    try:
        requires = importlib.metadata.requires(distribution)
    except importlib.metadata.PackageNotFoundError:
        return set()
    requirements = map(Requirement, requires or ())
    return {
        canonicalize_name(one.name) for one in requirements if one.marker is None or one.marker.evaluate({"extra": ""})
    }


def _version(library: str) -> str | None:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return None
