"""Checks that everything a plugin's distribution depends on is installed, before any of its code runs."""

from __future__ import annotations

import importlib.metadata
from functools import cache

from packaging.requirements import Requirement

from aebench.errors import AebenchError


def check_requirements(entry_point: importlib.metadata.EntryPoint) -> None:
    """Check that the dependencies of the entry point's distribution are installed, and that it accepts this aebench.

    Only aebench's version is checked. pip has already warned about other versions, and many upper bounds are
    stricter than they need to be.

    Raises:
        AebenchError: a dependency is missing, or this version of aebench is outside the range that is asked for.
    """
    requires = entry_point.dist.requires if entry_point.dist else None
    for requirement in map(Requirement, requires or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _installed_version(requirement.name)
        if installed is None:
            raise AebenchError(f"needs '{requirement}', which is not installed; pip install '{requirement}'")
        if requirement.name == "aebench" and not requirement.specifier.contains(installed, prereleases=True):
            raise AebenchError(f"needs aebench{requirement.specifier}, this is aebench {installed}")


@cache
def _installed_version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
