"""Writes the package of a new plugin from the templates in `templates`."""

from __future__ import annotations

import keyword
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Any

import aebench
from aebench.contracts.names import LONGEST_NAME, NAME_PATTERN, is_name
from aebench.errors import AebenchError
from aebench.registry.records import Registered, Registry

TEMPLATE_SUFFIX = ".txt"  # keeps linters and build tools from treating a template as a Python file


def write_package(kind: str, name: str, where: Path, registry: Registry) -> Path:
    """Write the package of a new plugin into the folder `where / name`, and return that folder.

    Args:
        kind: autoencoder, task or dataset.
        name: the name to register it under.
        where: an existing directory.
        registry: the installed plugins; their names cannot be used again.

    Raises:
        AebenchError: the name is not valid or taken, or the folder exists or cannot be written.
    """
    if not is_name(name) or keyword.iskeyword(_class_name(name)):
        raise AebenchError(
            f"a name must match {NAME_PATTERN} and have at most {LONGEST_NAME} characters, got {name!r}; "
            "for example 'my_model'"
        )
    taken: dict[str, Mapping[str, Registered[Any]]] = {
        "autoencoder": registry.autoencoders,
        "task": registry.tasks,
        "dataset": registry.datasets,
    }
    if other := taken[kind].get(name):
        raise AebenchError(f"the name '{name}' is taken by {other.distribution}; choose another name")
    words = name.split("_")
    values = {
        "name": name,
        "module": f"aebench_{name}",
        "distribution": f"aebench-{name.replace('_', '-')}",
        "title": " ".join(words).strip().capitalize(),
        "class_name": _class_name(name),
        "version": aebench.__version__,
        "next_minor": _next_minor(aebench.__version__),
    }
    folder = where / name
    try:
        folder.mkdir()
        for template in _templates(kind):
            file = Template(template.name.removesuffix(TEMPLATE_SUFFIX)).substitute(values)
            (folder / file).write_text(Template(template.read_text("utf-8")).substitute(values), "utf-8")
    except FileExistsError as error:
        raise AebenchError(f"{folder} exists already; it was not changed") from error
    except OSError as error:
        raise AebenchError(f"{folder} cannot be written: {error.strerror}") from error
    return folder


def _class_name(name: str) -> str:
    """The name of a class in Python: "my_model" -> "MyModel"; "none" -> "None", which is not one."""
    return "".join(word.capitalize() for word in name.split("_"))


def _next_minor(version: str) -> str:
    """The first version that may break a plugin written for `version`: "0.2.0" -> "0.3"."""
    major, minor = version.split(".")[:2]
    return f"{major}.{int(minor) + 1}"


def _templates(kind: str) -> list[Traversable]:
    root = files("aebench.scaffold") / "templates"
    return [file for folder in ("every", kind) for file in sorted((root / folder).iterdir(), key=lambda f: f.name)]
