"""Loads the plugins for a command, and says which are missing and what they changed."""

from __future__ import annotations

import gc
from typing import TYPE_CHECKING

from aebench.cli.output import print_error

if TYPE_CHECKING:
    from aebench.registry.records import Registry


def load_plugins(quiet: bool = False) -> Registry:
    """The registry of all plugins; unless `quiet`, a line on stderr for each that failed or had side effects."""
    gc.disable()  # imports make a million objects that stay, and Python would check them over and over
    try:
        from aebench.registry.loading import create_registry

        registry = create_registry()
    finally:
        gc.enable()
    if not quiet:
        for failure in registry.failures:
            print_error(
                f"plugin {failure.distribution} {failure.version}".rstrip() + f" is not available ({failure.stage}: "
                f"{failure.message.splitlines()[0]}); see 'aebench list failures'"
            )
        for distribution, changed in registry.changed_by_loading().items():
            print_error(f"plugin {distribution} changed {' and '.join(changed)} at import; it was restored")
    return registry
