"""Nothing in the sources runs code that a file or a store contains, and no command goes through a shell."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
FOLDERS = ("core", "tasks", "plugins")

# Whole modules whose readers run code, and single functions.
MODULES = {"pickle", "cPickle", "_pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
FUNCTIONS = {
    "eval", "exec", "compile", "__import__", "os.system", "os.popen", "pandas.read_pickle", "torch.jit.load",
    "yaml.full_load", "yaml.full_load_all", "yaml.unsafe_load", "yaml.unsafe_load_all",
}  # fmt: skip
NEEDS = {
    "torch.load": ("weights_only", True),
    "numpy.load": ("allow_pickle", False),
    "numpy.lib.format.read_array": ("allow_pickle", False),
}
MUST_NOT = {"shell": True, "allow_pickle": True, "weights_only": False}
# The one reader of pickles lets only parts of arrays be named.
ALLOWED = {("core/aebench/datasets/pickled_arrays.py", "pickle")}


def unsafe(source: str) -> Iterator[str]:
    """What a source imports or calls that could run code which it reads."""
    tree = ast.parse(source)
    names: dict[str, str] = {}  # what an imported name stands for
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                alias.asname or alias.name.partition(".")[0]: alias.name
                if alias.asname
                else alias.name.partition(".")[0]
                for alias in node.names
            }
            yield from {alias.name.partition(".")[0] for alias in node.names} & MODULES
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
            yield from {node.module.partition(".")[0]} & MODULES
    loaders = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and loaders & set(map(ast.unparse, node.bases)):
            loaders.add(node.name)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        first, dot, rest = ast.unparse(node.func).partition(".")
        called = names.get(first, first) + dot + rest
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        argument, value = NEEDS.get(called, ("", None))
        if called in FUNCTIONS or (argument and given.get(argument) != str(value)):
            yield called
        if called in ("yaml.load", "yaml.load_all") and not loaders & set(map(ast.unparse, node.args[1:])):
            yield called
        yield from (f"{called}({name}={value})" for name, value in MUST_NOT.items() if given.get(name) == str(value))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_sources_read_nothing_that_can_run_code(folder):
    files = list((REPOSITORY / folder).rglob("*.py"))
    assert files
    found = {(str(file.relative_to(REPOSITORY)), what) for file in files for what in unsafe(file.read_text())}
    assert found - ALLOWED == set()


def test_what_is_allowed_is_there():
    for file, what in ALLOWED:
        assert what in set(unsafe((REPOSITORY / file).read_text()))


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib as j",
        "import torch; torch.load('x')",
        "from torch import load; load('x', weights_only=False)",
        "import torch as t; t.load('x', map_location='cpu')",
        "import numpy as np; np.load('x')",
        "import numpy as np; np.load('x', allow_pickle=True)",
        "import yaml; yaml.load(text, yaml.Loader)",
        "import yaml; yaml.load(text, Loader=yaml.Loader)",
        "import yaml\nclass Own(yaml.Loader): pass\nyaml.load(text, Own)",
        "import yaml; yaml.unsafe_load(text)",
        "eval('1')",
        "exec('1')",
        "import subprocess; subprocess.run('x', shell=True)",
        "import os; os.system('x')",
    ],
)
def test_an_unsafe_call_is_found(source):
    assert list(unsafe(source))


@pytest.mark.parametrize(
    "source",
    [
        "import torch; torch.load('x', weights_only=True)",
        "import numpy as np; np.load('x', allow_pickle=False)",
        "import yaml; yaml.safe_load(text)",
        "import yaml\nclass Own(yaml.SafeLoader): pass\nyaml.load(text, Own)",
        "model.eval()",
        "import re; re.compile('x')",
    ],
)
def test_a_safe_call_is_not_reported(source):
    assert list(unsafe(source)) == []
