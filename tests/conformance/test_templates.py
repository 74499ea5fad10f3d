"""The package that `aebench new` writes passes every check unchanged."""

import importlib
import sys

import pytest

from aebench.registry.records import Registered, Registry
from aebench.scaffold import write_package
from aebench.testing import checks_of

KINDS = {"autoencoder": "aebench_autoencoders", "task": "aebench_tasks", "dataset": "aebench_datasets"}


@pytest.mark.parametrize(("kind", "hook"), KINDS.items())
def test_the_package_passes_its_checks(kind, hook, registry, tmp_path, monkeypatch):
    name = f"brand_new_{kind}"
    monkeypatch.syspath_prepend(write_package(kind, name, tmp_path, registry))
    module = importlib.import_module(f"aebench_{name}")
    records = getattr(module, hook)()
    assert [record.name for record in records] == [name]
    registered = {name: Registered(records[0], "", "", "")}
    own = Registry(*(registered if each == hook else {} for each in KINDS.values()))
    assert [result.message for check in checks_of(name, own) if not (result := check()).ok] == []
    sys.modules.pop(module.__name__)
