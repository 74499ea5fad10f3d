"""What a new plugin may be called."""

import pytest

from aebench.errors import AebenchError
from aebench.scaffold import write_package


@pytest.mark.parametrize("name", ["Mine", "1st", "my-model", "../up", "", "mine\n", "_mine", "naïve"])
def test_names_that_make_no_package(registry, tmp_path, name):
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
def test_names_that_are_taken(registry, tmp_path, kind, name, owner):
    with pytest.raises(AebenchError, match=f"the name '{name}' is taken by {owner};"):
        write_package(kind, name, tmp_path, registry)
    assert list(tmp_path.iterdir()) == []
