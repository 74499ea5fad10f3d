"""The README keeps up with the program."""

import re
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from aebench.cli import app
from aebench.planning.benchmark import load_benchmark

README = (Path(__file__).parents[2] / "README.md").read_text()
COMMANDS = get_command(app).commands


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_stands_in_the_readme(command):
    assert f"`aebench {command}`" in README


@pytest.mark.parametrize(
    "option",
    sorted({option for command in COMMANDS.values() for parameter in command.params for option in parameter.opts}),
)
def test_every_option_stands_in_the_readme(option):
    assert not option.startswith("--") or re.search(rf"(?<![\w-]){option}(?![\w-])", README)


def test_every_task_and_its_metrics_stand_in_the_readme(registry):
    for name, plugin in registry.tasks.items():
        row = next(line for line in README.splitlines() if line.startswith(f"| {name} |"))
        for metric in plugin.record.metrics:
            assert f"`{metric.name}`" in row
        assert row.split("|")[2].strip().startswith(f"`{plugin.record.primary.name}`")


def test_the_configuration_example_is_valid(registry, tmp_path):
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "bench.yaml").write_text(example)
    benchmark = load_benchmark(registry, tmp_path / "bench.yaml")
    assert len(benchmark.models) == len(yaml.safe_load(example)["models"])


def test_pictures_exist():
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", README)
    assert pictures
    for picture in pictures:
        assert (Path(__file__).parents[2] / picture).is_file()


def test_nothing_is_left_to_fill_in():
    assert not re.search(r"^@[A-Z]+@$", README, re.MULTILINE)
