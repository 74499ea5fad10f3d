"""Imports run one way, from package to package and from file to file; files stay short."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
CORE = REPOSITORY / "core" / "aebench"
FOLDERS = ("core", "plugins", "tasks", "benchmarks")
LONGEST = 300

# A package imports from itself and from those before it; those in one row do not import each other.
LAYERS = (
    ("errors",),
    ("environment", "files", "memory"),
    ("hookspecs",),
    ("contracts",),
    ("networks",),
    ("registry",),
    ("datasets",),
    ("planning",),
    ("training",),
    ("evaluation",),
    ("execution",),
    ("results",),
    ("tracking",),
    ("report",),
    ("testing", "scaffold"),
    ("runner",),
    ("cli",),
)
LAYER = {package: number for number, row in enumerate(LAYERS) for package in row}
# The hooks return records, and the contract offers the hooks' marker.
MAY_NAME_EACH_OTHER_FOR_TYPES = {"hookspecs", "contracts"}


def _files(folder: str) -> list[Path]:
    return sorted(REPOSITORY.joinpath(folder).rglob("*.py"))


def _modules() -> dict[str, Path]:
    """The repository's modules by name: their path below the folder that is on the import path."""
    modules = {}
    for folder in FOLDERS:
        for file in _files(folder):
            above = 2 if folder == "plugins" else 0 if folder == "benchmarks" else 1
            parts = file.relative_to(REPOSITORY).with_suffix("").parts[above:]
            modules[".".join(parts).removesuffix(".__init__")] = file
    return modules


def _imports(module: str, file: Path, modules: dict[str, Path]) -> Iterator[tuple[str, bool]]:
    """(imported module of the repository, whether under TYPE_CHECKING), for every import anywhere in the file."""
    package = module.split(".") if file.name == "__init__.py" else module.split(".")[:-1]
    waiting: list[tuple[ast.AST, bool]] = [(ast.parse(file.read_text()), False)]
    while waiting:
        node, for_types = waiting.pop()
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
            found = [name if name in modules else base for name in names]
        else:
            found = []
            type_block = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
            skipped = set(node.body) if type_block else set()
            waiting += [(child, for_types or child in skipped) for child in ast.iter_child_nodes(node)]
        yield from ((name, for_types) for name in dict.fromkeys(found) if name in modules)


MODULES = _modules()


def test_every_package_has_a_layer():
    assert {file.stem for file in CORE.iterdir() if file.suffix == ".py" or (file / "__init__.py").is_file()} - {
        "__init__"
    } == set(LAYER)


def test_packages_import_only_those_before_them():
    wrong = []
    for module, file in MODULES.items():
        if not module.startswith("aebench."):
            continue  # it only holds the version
        importing = module.split(".")[1]
        for imported, for_types in _imports(module, file, MODULES):
            if not imported.startswith("aebench."):
                continue
            target = imported.split(".")[1]
            mutual = for_types and {importing, target} == MAY_NAME_EACH_OTHER_FOR_TYPES
            if importing != target and LAYER[target] >= LAYER[importing] and not mutual:
                wrong.append(f"{module} imports {imported}")
    assert wrong == []


def test_no_circle_among_files():
    graph = {
        module: {name for name, for_types in _imports(module, file, MODULES) if not for_types}
        for module, file in MODULES.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_plugins_and_tasks_use_what_is_public():
    public = ("aebench.contracts", "aebench.networks")
    wrong = [
        f"{module} imports {imported}"
        for module, file in MODULES.items()
        if file.relative_to(REPOSITORY).parts[0] in ("plugins", "tasks")
        for imported, _ in _imports(module, file, MODULES)
        if imported.startswith("aebench.") and not imported.startswith(public)
    ]
    assert wrong == []


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_file_is_long(folder):
    lengths = {str(file.relative_to(REPOSITORY)): len(file.read_text().splitlines()) for file in _files(folder)}
    assert lengths
    assert {file: length for file, length in lengths.items() if length > LONGEST} == {}
