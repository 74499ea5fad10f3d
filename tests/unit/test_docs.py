"""The pages under docs/ match the program."""

import importlib.util
import re
from pathlib import Path

import pytest

from aebench import contracts
from aebench.registry.loading import RECORD_OF_HOOK

DOCS = Path(__file__).parents[2] / "docs"


def test_the_hooks_page_is_up_to_date():
    spec = importlib.util.spec_from_file_location("generate", DOCS / "generate.py")
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    page = generate.hooks_page()
    assert (DOCS / "hooks.md").read_text() == page, "run: python docs/generate.py"
    for name in (*RECORD_OF_HOOK, *(name for name in contracts.__all__ if name != "hookimpl")):
        assert re.search(rf"### `{name}\b", page), name


@pytest.mark.parametrize("page", sorted(DOCS.glob("*.md")), ids=lambda page: page.name)
def test_links_to_files_exist(page):
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_the_architecture_page_names_every_folder_of_the_core():
    page = (DOCS / "architecture.md").read_text()
    core = DOCS.parent / "core" / "aebench"
    folders = {path.parent.name for path in core.glob("*/*.py")}
    assert folders <= set(re.findall(r"`(?:core/aebench/)?(\w+)/?`", page))


def test_each_walk_names_at_most_nine_files_that_exist_each_once():
    page = (DOCS / "architecture.md").read_text().partition("## Walks")[2]
    walks = [re.findall(r"^\d\. `([^`]+)`", walk, re.MULTILINE) for walk in page.split("\n**")[1:]]
    assert len(walks) >= 3
    for files in walks:
        assert 0 < len(files) == len(set(files)) <= 9
        for file in files:
            assert (DOCS.parent / file).is_file(), file
