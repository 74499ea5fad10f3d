"""The pages under docs/ match the program."""

import importlib.util
import re
from pathlib import Path

import pytest

from aebench import contracts
from aebench.planning.benchmark import load_benchmark
from aebench.registry.loading import RECORD_OF_HOOK
from tests.unit import published_datasets

DOCS = Path(__file__).parents[2] / "docs"
DATA_PAGE = (DOCS / "data.md").read_text()


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


def test_the_data_page_has_a_row_for_every_data_set_that_ships(registry):
    ship = {name for name, plugin in registry.datasets.items() if plugin.distribution == "aebench"}
    table = DATA_PAGE.partition("\n- ")[0]
    assert ship - {"folder", "npz"} == set(re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE))


@pytest.mark.parametrize(
    "make",
    [make for make in published_datasets.ALL if make is not published_datasets.medmnist_without_labels],  # one of 24
    ids=lambda make: make.__name__,
)
def test_the_data_page_says_which_files_go_where(make):
    published = make()
    row = next(line for line in DATA_PAGE.partition("## Without")[2].splitlines() if f"| `{published.name}` " in line)
    assert row.split("|")[2].strip(" `") == published.folder
    assert [file for file in published.files if f"`{file}`" not in row] == []


def test_the_example_of_the_data_page_is_valid(registry, tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", DATA_PAGE, re.DOTALL)
    (tmp_path / "bench.yaml").write_text(example)
    assert load_benchmark(registry, tmp_path / "bench.yaml").dataset.params.size == 64


def test_the_tests_that_the_reliability_page_names_exist():
    files = {file.name: file.read_text() for file in DOCS.parent.glob("tests/*/test_*.py")}
    page = (DOCS / "reliability.md").read_text()
    named_files = set(re.findall(r"test_\w+\.py", page))
    assert len(named_files) > 10
    assert named_files <= files.keys()
    defined = set(re.findall(r"^def (test_\w+)", "\n".join(files.values()), re.MULTILINE))
    assert set(re.findall(r"`(?:test_\w+\.py)?(?:::)?(test_\w+)`", page)) <= defined
