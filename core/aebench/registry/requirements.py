"""What a plugin needs to be there before its code is run: its dependencies, and a contract it was written for."""

from __future__ import annotations

import importlib.metadata
from functools import cache

from packaging.requirements import Requirement

from aebench.contracts import CONTRACT
from aebench.errors import AebenchError

CONTRACT_ATTRIBUTE = "AEBENCH_CONTRACT"


def check_requirements(entry_point: importlib.metadata.EntryPoint) -> None:
    """See that all that the entry point's distribution depends on is installed, and aebench in a version it accepts.

    Other packages may have any version: pip has said so already, and bounds tend to be narrower than the truth.

    Raises:
        AebenchError: something is missing, or aebench is too old or too new.
    """
    requires = entry_point.dist.requires if entry_point.dist else None
    for requirement in map(Requirement, requires or ()):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = _installed(requirement.name)
        if installed is None:
            raise AebenchError(f"needs '{requirement}', which is not installed; pip install '{requirement}'")
        if requirement.name == "aebench" and not requirement.specifier.contains(installed, prereleases=True):
            raise AebenchError(f"needs aebench{requirement.specifier}, this is aebench {installed}")


def check_contract(plugin: object, distribution: str) -> None:
    """See that the module `plugin` was written for this contract; one that declares none was written for the first.

    Raises:
        AebenchError: it was written for another one.
    """
    declared = getattr(plugin, CONTRACT_ATTRIBUTE, 1)
    if declared != CONTRACT:
        newer = isinstance(declared, int) and declared > CONTRACT
        mend = "upgrade aebench" if newer else f"upgrade {distribution}"
        raise AebenchError(f"is written for contract {declared!r}, this aebench has contract {CONTRACT}; {mend}")


@cache
def _installed(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
