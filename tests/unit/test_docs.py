"""The pages under docs/ keep up with the program."""

import importlib.util
import re
from pathlib import Path

import pytest

from aebench import contracts
from aebench.registry.loading import RECORD_OF_HOOK

DOCS = Path(__file__).parents[2] / "docs"


def test_hooks_page_is_the_generated_one():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = generate.hooks_page()
    assert (DOCS / "hooks.md").read_text() == page, "run: python docs/generate.py"
    for name in (*RECORD_OF_HOOK, *(name for name in contracts.__all__ if name not in ("CONTRACT", "hookimpl"))):
        assert re.search(rf"### `{name}\b", page), name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_architecture_page_names_every_module():
    page = (DOCS / "architecture.md").read_text()
    core = DOCS.parent / "core" / "aebench"
    parts = [path for path in core.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()]
    assert {path.stem for path in parts if not path.stem.startswith("_")} <= set(re.findall(r"`(\w+)`", page))
