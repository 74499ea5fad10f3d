"""The core has no special case for a shipped plugin: none of its files names one."""

import ast
import re
from pathlib import Path

import pytest

import aebench

CORE = Path(aebench.__file__).parent
COMMON_WORDS = {"reconstruction"}  # a part of every loss, and a task
UNAMBIGUOUS = {"vae", "vq_vae", "beta_vae", "beta_vae_strict", "beta_vae_loose"}  # forbidden in comments too
FILES = sorted(CORE.rglob("*.py"))


def test_the_core_is_found():
    assert len(FILES) > 20


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CORE)))
def test_no_plugin_is_named(file, registry):
    """A docstring may give a plugin's name as an example; a string or an import may not."""
    plugins = [*registry.autoencoders.values(), *registry.tasks.values()]
    names = {name for plugin in plugins for name in (plugin.record.name, plugin.distribution)}
    modules = {plugin.module.partition(".")[0] for plugin in plugins}
    tree = ast.parse(file.read_text())
    docstrings = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    found, imported = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            found |= set(re.findall(r"[\w-]+", node.value))
        elif isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").partition(".")[0])
    assert not found & (names - COMMON_WORDS)
    assert not set(re.findall(r"[\w-]+", file.read_text())) & UNAMBIGUOUS
    assert not imported & modules
