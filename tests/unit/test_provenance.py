"""A hash changes with everything that can change the result, and with nothing else."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import aebench
import aebench_tasks
from aebench.errors import AebenchError
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import Plan, plan
from aebench.planning.provenance import (
    CORE_LIBRARIES,
    EVALUATION_ROOTS,
    REFERENCE_CLASSIFIER_ROOTS,
    TRAINING_ROOTS,
    declared_libraries,
    evaluation_provenance,
    reference_classifier_provenance,
    training_provenance,
)
from aebench.planning.source_code import import_closure, source_hash

CORE = Path(aebench.__file__).parent
MODULE = '"""What it is."""\ndef f(x):\n    """What it does."""\n    return x + 1  # why\n'


@pytest.fixture
def write(tmp_path, monkeypatch) -> Callable[[str, str], None]:
    """write("package/module.py", source): a file that can be imported from now on."""
    monkeypatch.syspath_prepend(tmp_path)

    def write(path: str, source: str) -> None:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(source)
        importlib.invalidate_caches()

    return write


@pytest.fixture
def distribution(write) -> Callable[..., None]:
    """distribution(name, version, module, requires=[...], plugin=True): an installed distribution with one module."""

    def distribution(name: str, version: str, module: str, requires=(), plugin: bool = True) -> None:
        required = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
        write(f"{name}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{required}")
        write(f"{name}.dist-info/top_level.txt", module)
        write(f"{name}.dist-info/entry_points.txt", f"[aebench]\n{module} = {module}\n" if plugin else "")

    return distribution


@pytest.fixture
def training_code(registry) -> Callable[..., str]:
    """training_code("module", distribution): the provenance of the trainings of a plugin with this entry point."""

    def training_code(module: str, distribution: str | None = None) -> str:
        plugin = replace(registry.autoencoder("vae"), module=module, distribution=distribution or module)
        return json.dumps(training_provenance(plugin, None))

    return training_code


def _hashes(plan: Plan) -> tuple[dict[str, str], dict[tuple[str, str], str]]:
    """Hashes of the trainings by model, and of the cells by model and task."""
    trainings = {cell.training.label: cell.training.hash for cell in plan.cells}
    return trainings, {(cell.training.label, cell.task): cell.hash for cell in plan.cells}


# How code is hashed


@pytest.mark.parametrize(
    "prose",
    [
        ("What it is.", "What it really is."),
        ("What it does.", "Returns the successor."),
        ("# why", "# because"),
        ("  # why", ""),
        ("x + 1", "(x + 1)"),
        ('    """What it does."""\n', ""),
    ],
)
def test_prose_changes_no_hash(write, training_code, prose):
    write("mine.py", MODULE)
    before = training_code("mine")
    assert prose[0] in MODULE
    write("mine.py", MODULE.replace(*prose))
    assert training_code("mine") == before


def test_a_text_that_is_no_docstring_counts(write, training_code):
    write("mine.py", "name = 'one'")
    before = training_code("mine")
    write("mine.py", "name = 'two'")
    assert training_code("mine") != before


def test_a_module_that_is_no_python_is_hashed_as_it_is(write):
    write("mine.py", "not a program")
    before = source_hash(["mine"])
    write("mine.py", "not a programme")
    assert source_hash(["mine"]) != before


# What is hashed


@pytest.mark.parametrize(
    "statement",
    [
        "import near.far",
        "import near.far as other",
        "from near import far",
        "from near.far import f",
        "from near.far import *",
        "def later():\n    from near.far import f",
        "try:\n    import near.far\nexcept ImportError:\n    pass",
        "from near.middle import g",
    ],
)
def test_a_statement_two_imports_away_counts(write, training_code, statement):
    write("near/__init__.py", "")
    write("near/middle.py", "from . import far\ng = far.f")
    write("near/far.py", MODULE)
    write("between.py", statement)
    write("mine.py", "import between")
    before = training_code("mine")
    write("near/far.py", MODULE.replace("x + 1", "x + 2"))
    assert training_code("mine") != before


@pytest.mark.parametrize("statement", ["from .. import b", "from ..b import f", "from ..c.d import g"])
def test_relative_imports_and_folders_without_init_are_followed(write, statement):
    write("top/a/__init__.py", statement)
    write("top/b.py", MODULE)
    write("top/c/d.py", "from ..b import f as g")
    assert {"top", "top.a", "top.b"} <= import_closure("top.a")


def test_the_packages_around_a_module_belong_to_it(write):
    write("top/__init__.py", "import beside")
    write("top/inner/__init__.py", "")
    write("top/inner/module.py", "")
    write("beside.py", "")
    assert import_closure("top.inner.module") == {"top", "top.inner", "top.inner.module", "beside"}


def test_imports_for_types_do_not_count(write):
    write("mine.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import one\nelse:\n    import other")
    write("one.py", "")
    write("other.py", "")
    assert import_closure("mine") == {"mine", "other"}


def test_circles_end_and_nothing_is_imported(write):
    write("mine.py", "import other\nraise RuntimeError('imported')")
    write("other.py", "import mine\nimport not_installed_anywhere")
    assert import_closure("mine") == {"mine", "other"}
    assert {"mine", "other"}.isdisjoint(sys.modules)


def test_every_module_of_an_installed_plugin_is_followed(write, distribution, training_code):
    """Also one that no entry point names, and one that is compiled."""
    distribution("two-modules", "1.0", "front")
    write("two-modules.dist-info/RECORD", "front.py,,\nback.py,,\nfast/__init__.py,,\n")
    write("front.py", "import back\nfrom fast import engine")
    write("back.py", MODULE)
    write("fast/__init__.py", "")
    write(f"fast/engine{EXTENSION_SUFFIXES[0]}", "compiled")
    assert {"front", "back", "fast.engine"} <= import_closure("front")
    before = training_code("front", "two-modules")
    write(f"fast/engine{EXTENSION_SUFFIXES[0]}", "compiled anew")
    changed = training_code("front", "two-modules")
    assert changed != before
    write("back.py", MODULE.replace("+ 1", "+ 2"))
    assert training_code("front", "two-modules") != changed


def test_the_core_computes_with_no_library_whose_version_is_not_hashed():
    """A new import in what trains or evaluates has to be decided upon here."""
    computes_nothing = {"filelock", "matplotlib", "PIL", "pluggy", "pydantic", "safetensors"}
    imported = set()
    for module in import_closure(*TRAINING_ROOTS, *EVALUATION_ROOTS, *REFERENCE_CLASSIFIER_ROOTS):
        file = CORE.joinpath(*module.split(".")[1:])
        source = (file / "__init__.py" if file.is_dir() else file.with_suffix(".py")).read_text()
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, ast.Import):
                imported |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module.partition(".")[0])
    libraries = imported - sys.stdlib_module_names - {"aebench"}
    assert {"torch", "numpy"} <= libraries
    assert libraries - CORE_LIBRARIES <= computes_nothing


def test_libraries_are_not_followed(write, distribution):
    distribution("library", "1.0", "library", plugin=False)
    write("library.py", "import mine")
    write("mine.py", "import json, numpy, torch.nn, library")
    assert import_closure("mine") == {"mine"}


def test_a_source_that_cannot_be_found_is_an_error():
    with pytest.raises(AebenchError, match="source of module 'not_installed_anywhere' cannot be found"):
        import_closure("not_installed_anywhere")


def test_a_plugin_that_builds_on_another_is_retrained_when_that_one_changes(write, distribution, training_code):
    for name in ("first", "second"):
        distribution(name, "1.0", name)
    write("first.py", MODULE)
    write("second.py", "from first import f")
    write("third.py", "")
    before = [training_code(name, name) for name in ("first", "second", "third")]
    write("first.py", MODULE.replace("x + 1", "x + 2"))
    after = [training_code(name, name) for name in ("first", "second", "third")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, False, True]


def test_editing_one_task_leaves_the_others(write, registry):
    def provenances() -> dict[str, object]:
        return {
            name: evaluation_provenance(replace(task, module=task.module.replace("aebench_tasks", "copied")))
            for name, task in registry.tasks.items()
            if task.module.startswith("aebench_tasks.")
        }

    for file in Path(aebench_tasks.__file__).parent.glob("*.py"):
        write(f"copied/{file.name}", file.read_text().replace("aebench_tasks", "copied"))
    assert provenances() == provenances()
    for edited, changed in [
        ("sampling", {"sampling"}),
        ("classification", {"classification"}),
        ("distances", {"sampling", "interpolation"}),
    ]:
        before = provenances()
        file = Path(aebench_tasks.__file__).with_name(f"{edited}.py")
        write(f"copied/{edited}.py", file.read_text().replace("aebench_tasks", "copied") + "\nADDED = 1\n")
        after = provenances()
        assert {name for name in before if before[name] != after[name]} == changed


# Versions and devices


def test_the_libraries_of_a_plugin_are_those_it_and_the_plugins_it_requires_declare(distribution):
    distribution("base", "1.0", "base", ["aebench>=0.1", "Scikit_Learn", 'tomli; python_version < "3"'])
    distribution("built", "1.0", "built", ["base", "umap-learn>=0.5", "pandas; extra == 'more'"])
    assert declared_libraries("built") == {"scikit-learn", "umap-learn"}
    assert declared_libraries("base") == {"scikit-learn"}
    assert declared_libraries("not-installed-anywhere") == frozenset()


def test_a_librarys_version_counts_where_it_is_declared(write, distribution, training_code):
    distribution("library", "1.0", "library", plugin=False)
    distribution("declares", "1.0", "declares", ["library"])
    distribution("silent", "1.0", "silent")
    for name in ("library", "declares", "silent"):
        write(f"{name}.py", "")
    before = [training_code(name, name) for name in ("declares", "silent")]
    distribution("library", "1.1", "library", plugin=False)
    after = [training_code(name, name) for name in ("declares", "silent")]
    assert [a == b for a, b in zip(before, after, strict=True)] == [False, True]


@pytest.mark.parametrize(
    ("library", "trainings_change", "cells_change"),
    [("torch", True, True), ("numpy", True, True), ("umap-learn", False, True), ("rich", False, False)],
)
def test_another_version_of_a_library(lay_out, monkeypatch, library, trainings_change, cells_change):
    before = _hashes(lay_out(models=["vae"]))
    installed = importlib.metadata.version
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0" if name == library else installed(name))
    after = _hashes(lay_out(models=["vae"]))
    assert [set(a.values()).isdisjoint(b.values()) for a, b in zip(before, after, strict=True)] == [
        trainings_change,
        cells_change,
    ]


def test_the_kind_of_device_counts(registry, digits):
    benchmark = load_benchmark(registry, None, {("models",): ["vae"], ("tasks",): ["reconstruction"]})
    cpu, cuda = (plan(benchmark, digits.info, device_kind=kind).cells[0] for kind in ("cpu", "cuda"))
    assert (cpu.training.device_kind, cuda.training.device_kind) == ("cpu", "cuda")
    assert cpu.training.hash != cuda.training.hash
    assert cpu.hash != cuda.hash


def test_the_reference_classifier_depends_on_device_and_torch(monkeypatch):
    before = reference_classifier_provenance("cpu")
    assert before == reference_classifier_provenance("cpu") != reference_classifier_provenance("cuda")
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.0")
    assert reference_classifier_provenance("cpu") != before


# The core's own code


@pytest.fixture
def edit_core(tmp_path, monkeypatch) -> Callable[[str], None]:
    """edit_core("cli/commands.py"): add a statement to this file in a copy of the core, which is hashed."""
    copy = tmp_path / "aebench"
    shutil.copytree(CORE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    spec = importlib.util.spec_from_file_location(
        "aebench", copy / "__init__.py", submodule_search_locations=[str(copy)]
    )
    monkeypatch.setattr(aebench, "__spec__", spec)

    def edit_core(file: str) -> None:
        (copy / file).write_text((copy / file).read_text() + "\nADDED = 1\n")

    return edit_core


@pytest.mark.parametrize(
    "file",
    [
        "training/trainer.py",
        "training/step.py",
        "contracts/models.py",
        "planning/seeds.py",
        "planning/specs.py",
    ],
)
def test_code_that_trains_changes_every_hash(lay_out, edit_core, file):
    before = _hashes(lay_out(models=["vae", "pca"]))
    edit_core(file)
    after = _hashes(lay_out(models=["vae", "pca"]))
    assert all(set(a.values()).isdisjoint(b.values()) for a, b in zip(before, after, strict=True))


def test_the_code_of_a_backbone_changes_the_hashes_of_what_is_built_on_it(lay_out, edit_core):
    before, _ = _hashes(lay_out(models=["vae", "pca"]))
    edit_core("networks/dense.py")
    after, _ = _hashes(lay_out(models=["vae", "pca"]))
    assert after["vae"] != before["vae"]
    assert after["pca"] == before["pca"]


@pytest.mark.parametrize(
    "file",
    [
        "__init__.py",
        "cli/commands.py",
        "runner/__init__.py",
        "planning/config.py",
        "planning/planner.py",
        "results/matrix.py",
    ],
)
def test_code_that_computes_nothing_changes_no_hash(lay_out, edit_core, file):
    before = _hashes(lay_out(models=["vae", "pca"]))
    edit_core(file)
    assert _hashes(lay_out(models=["vae", "pca"])) == before


def test_the_reference_classifier_counts_for_the_tasks_that_need_it(lay_out, edit_core, registry):
    (trainings, cells), classifier = _hashes(lay_out(models=["vae"])), reference_classifier_provenance("cpu")
    edit_core("evaluation/reference_classifier.py")
    trainings_after, cells_after = _hashes(lay_out(models=["vae"]))
    assert reference_classifier_provenance("cpu") != classifier
    assert trainings_after == trainings
    changed = {task for model, task in cells if cells[model, task] != cells_after[model, task]}
    assert changed == {name for name, task in registry.tasks.items() if task.record.needs_reference_classifier}


def test_every_module_that_is_there_at_run_time_is_in_the_closure(registry):
    """Nothing that computes can be forgotten: a fresh interpreter imports the roots and tells what came with them."""
    plugins = {plugin.module for plugin in (*registry.autoencoders.values(), *registry.tasks.values())}
    groups = [TRAINING_ROOTS, EVALUATION_ROOTS, REFERENCE_CLASSIFIER_ROOTS, *((module,) for module in sorted(plugins))]
    program = """
import importlib, json, sys
def ours():
    return [name for name in sys.modules if name.startswith("aebench")]
groups = []
for roots in json.loads(sys.argv[1]):
    for name in ours():
        del sys.modules[name]
    for root in roots:
        importlib.import_module(root)
    groups.append([name for name in ours() if name != "aebench"])
print(json.dumps(groups))
"""
    finished = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program, json.dumps(groups)], capture_output=True, text=True, check=True
    )
    for roots, imported in zip(groups, json.loads(finished.stdout), strict=True):
        assert set(roots) <= set(imported)
        assert set(imported) <= import_closure(*roots)
