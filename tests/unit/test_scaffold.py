"""`aebench new`: valid names, and the versions of aebench that a new package asks for."""

import tomllib

import pytest
from packaging.requirements import Requirement

from aebench import __version__
from aebench.errors import AebenchError
from aebench.scaffold import write_package


@pytest.mark.parametrize("name", ["Mine", "1st", "my-model", "../up", "", "mine\n", "_mine", "naïve"])
def test_an_invalid_name_is_refused(registry, tmp_path, name):
    with pytest.raises(AebenchError, match="a name must match"):
        write_package("task", name, tmp_path, registry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("kind", "name", "owner"),
    [
        ("autoencoder", "vae", "aebench-vae"),
        ("task", "sampling", "aebench-tasks"),
        ("dataset", "digits", "aebench"),
    ],
)
def test_a_name_that_is_taken_is_refused(registry, tmp_path, kind, name, owner):
    with pytest.raises(AebenchError, match=f"the name '{name}' is taken by {owner};"):
        write_package(kind, name, tmp_path, registry)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["autoencoder", "task", "dataset"])
def test_a_new_package_accepts_this_minor_version_of_aebench_only(registry, tmp_path, kind):
    project = tomllib.loads((write_package(kind, "mine", tmp_path, registry) / "pyproject.toml").read_text())["project"]
    (requirement,) = map(Requirement, project["dependencies"])
    major, minor, *_ = __version__.split(".")
    assert requirement.name == "aebench"
    assert requirement.specifier.contains(__version__)
    assert requirement.specifier.contains(f"{major}.{minor}.99")
    assert not requirement.specifier.contains(f"{major}.{int(minor) + 1}.0")
