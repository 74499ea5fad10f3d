"""The README and the pages it leads to match the program."""

import re
from itertools import takewhile
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from aebench.cli import app
from aebench.planning.benchmark import load_benchmark
from aebench.planning.config import BenchmarkConfig

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
COMMANDS_PAGE = (ROOT / "docs" / "commands.md").read_text()
METRICS_PAGE = (ROOT / "docs" / "metrics.md").read_text()
COMMANDS = get_command(app).commands


def test_the_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 110
    assert [line for line in lines if len(line) > 120] == []


def test_the_table_has_a_row_for_every_model_and_a_number_in_every_entry(registry):
    rows = [line.strip("| ").split(" | ") for line in README.partition("|---|--:|")[2].splitlines()[1:]]
    table = list(takewhile(lambda row: len(row) > 1, rows))
    installed = re.findall(r"^-e \./plugins/(\w+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    shipped = {f"aebench-{name.replace('_', '-')}" for name in installed}
    models = {name for name, plugin in registry.autoencoders.items() if plugin.distribution in shipped}
    assert {row[0].removesuffix(" (baseline)") for row in table} == models
    assert all(float(entry) >= 0 for row in table for entry in row[1:])


def test_the_readme_has_a_test_command():
    assert re.search(r"^<!-- test command -->\n```\n.+\n```$", README, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_documented(command):
    assert f"`aebench {command}`" in COMMANDS_PAGE


@pytest.mark.parametrize(
    "option",
    sorted({option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}),
)
def test_every_option_is_documented(option):
    assert not option.startswith("--") or re.search(rf"(?<![\w-]){option}(?![\w-])", COMMANDS_PAGE)


def test_every_task_and_its_metrics_are_documented(registry):
    for name, plugin in registry.tasks.items():
        row = next(line for line in METRICS_PAGE.splitlines() if line.startswith(f"| {name} |"))
        for metric in plugin.record.metrics:
            assert f"`{metric.name}`" in row
        assert row.split("|")[2].strip().startswith(f"`{plugin.record.primary.name}`")


@pytest.mark.parametrize("example", re.findall(r"```yaml\n(.*?)```", COMMANDS_PAGE, re.DOTALL))
def test_the_configuration_examples_are_valid(registry, tmp_path, example):
    (tmp_path / "bench.yaml").write_text(example)
    benchmark = load_benchmark(registry, tmp_path / "bench.yaml")
    models = yaml.safe_load(example).get("models")
    assert models is None or len(benchmark.models) == len(models)
    assert benchmark.config != BenchmarkConfig()


def test_links_and_pictures_of_the_readme_exist():
    targets = re.findall(r"\]\((?!https?:|#)([^)#]+)", README)
    assert any(target.endswith(".png") for target in targets)
    assert [target for target in targets if not (ROOT / target).exists()] == []


@pytest.mark.parametrize("page", ["README.md", "docs/mnist.md", "docs/speed.md", "docs/reliability.md"])
def test_no_placeholder_is_left(page):
    assert not re.search(r"^@[A-Z]+@$", (ROOT / page).read_text(), re.MULTILINE)
