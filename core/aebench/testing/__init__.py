"""The conformance kit: checks that a plugin does what `aebench.contracts` requires.

On the command line: `aebench check NAME`. In a plugin's own tests:

    from aebench.testing import contract_tests

    test_contract = contract_tests("my_model")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aebench.errors import AebenchError
from aebench.registry.loading import create_registry
from aebench.registry.records import Registered, Registry, did_you_mean
from aebench.testing import autoencoders, backbones, datasets, samplers, tasks
from aebench.testing.autoencoder_checks.model_under_test import AutoencoderUnderTest
from aebench.testing.backbones import BackboneUnderTest
from aebench.testing.checks import BoundCheck, Check, CheckResult, Nonconformance
from aebench.testing.datasets import DatasetUnderTest
from aebench.testing.samplers import SamplerUnderTest
from aebench.testing.tasks import TaskUnderTest

__all__ = [
    "AutoencoderUnderTest",
    "BackboneUnderTest",
    "BoundCheck",
    "Check",
    "CheckResult",
    "DatasetUnderTest",
    "Nonconformance",
    "SamplerUnderTest",
    "TaskUnderTest",
    "checks_of",
    "contract_tests",
]


def checks_of(
    name: str,
    registry: Registry | None = None,
    *,
    data_dir: Path = Path(),
    params: Mapping[str, Any] | None = None,
) -> list[BoundCheck[Any]]:
    """The checks of every model, task, data set, backbone and sampler registered as `name`, each bound to its plugin.

    Args:
        name: as registered.
        registry: the plugins to search; by default the installed ones.
        data_dir: the directory that a data set may download to.
        params: for a data set whose parameters have no defaults.

    Raises:
        AebenchError: nothing is registered under this name.
    """
    registry = registry or create_registry()
    kinds: tuple[tuple[Mapping[str, Registered[Any]], tuple[Check[Any], ...], Callable[[Any], Any]], ...] = (
        (registry.autoencoders, autoencoders.CHECKS, AutoencoderUnderTest),
        (registry.tasks, tasks.CHECKS, TaskUnderTest),
        (registry.datasets, datasets.CHECKS, lambda record: DatasetUnderTest(record, data_dir, params or {})),
        (registry.backbones, backbones.CHECKS, BackboneUnderTest),
        (registry.samplers, samplers.CHECKS, SamplerUnderTest),
    )
    bound: list[BoundCheck[Any]] = []
    for registered, checks, under_test in kinds:
        if name in registered:
            subject = under_test(registered[name].record)
            bound += [BoundCheck(check, subject) for check in checks]
    if not bound:
        known = sorted({name for registered, _, _ in kinds for name in registered})
        raise AebenchError(
            f"nothing is registered as '{name}'{did_you_mean(name, known)} Available: {', '.join(known) or 'none'}. "
            "See 'aebench list' and 'aebench list failures'."
        )
    return bound


def contract_tests(
    name: str, *, data_dir: Path = Path(), params: Mapping[str, Any] | None = None
) -> Callable[..., None]:
    """A pytest test function with one case for each check of `name`; takes the arguments of `checks_of`."""
    import pytest

    @pytest.mark.parametrize("check", checks_of(name, data_dir=data_dir, params=params), ids=lambda check: check.name)
    def test_contract(check: BoundCheck[Any]) -> None:
        result = check()
        if not result.ok:
            pytest.fail(f"{result.title}\n{result.message}\n{result.traceback}", pytrace=False)

    return test_contract
