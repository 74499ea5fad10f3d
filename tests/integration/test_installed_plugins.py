"""Plugins come and go with pip, in a real environment."""

import json
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from .conftest import environment

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def venv(tmp_path_factory):
    """A virtual environment with everything but aebench linked from this one, and aebench installed by pip."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("aebench", "_aebench")) and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    packages = [ROOT, ROOT / "tasks", *sorted((ROOT / "plugins").iterdir())]
    _pip(folder, "install", *packages)
    return folder


def _pip(folder, *arguments):
    python = folder / "bin" / "python"
    options = ["--no-deps", "--no-build-isolation"] if arguments[0] == "install" else []
    command = [python, "-m", "pip", "--disable-pip-version-check", *arguments[:1], "-q", *options, *arguments[1:]]
    subprocess.run(command, check=True, env=environment(), capture_output=True)


def _aebench(folder, cwd, *arguments):
    command = [folder / "bin" / "aebench", *arguments]
    return subprocess.run(command, cwd=cwd, check=True, capture_output=True, text=True, env=environment()).stdout


def test_a_plugin_goes_with_pip_uninstall_and_comes_back_with_pip_install(venv, tmp_path):
    def models():
        return {model["name"] for model in json.loads(_aebench(venv, tmp_path, "list", "--json"))["models"]}

    everything = models()
    assert len(everything) == 9
    _pip(venv, "uninstall", "-y", "aebench-vq-vae")
    assert everything - models() == {"vq_vae"}
    _aebench(venv, tmp_path, "run", "--epochs", "1", "--tasks", "reconstruction")
    cells = json.loads(_aebench(venv, tmp_path, "results", "--json"))["cells"]
    assert {(cell["model"], cell["status"]) for cell in cells} == {(name, "ok") for name in everything - {"vq_vae"}}
    _pip(venv, "install", ROOT / "plugins" / "vq_vae")
    assert models() == everything


def test_the_readmes_plugin_installs_and_runs(venv, tmp_path):
    """Its two code blocks, saved under the names in their first lines, are a package."""
    package = tmp_path / "tied"
    package.mkdir()
    readme = (ROOT / "README.md").read_text()
    for name, content in re.findall(r"```(?:python|toml)\n# (\S+)\n(.*?)```", readme, re.DOTALL):
        (package / name).write_text(content)
    assert {file.name for file in package.iterdir()} == {"aebench_tied.py", "pyproject.toml"}
    _pip(venv, "install", package)
    _aebench(venv, tmp_path, "run", "--epochs", "3", "--models", "tied,vanilla", "--tasks", "reconstruction,sampling")
    cells = json.loads(_aebench(venv, tmp_path, "results", "--json"))["cells"]
    _pip(venv, "uninstall", "-y", "aebench-tied")
    assert [(cell["model"], cell["task"], cell["status"]) for cell in cells] == [
        ("tied", "reconstruction", "ok"),
        ("tied", "sampling", "skipped"),
        ("vanilla", "reconstruction", "ok"),
        ("vanilla", "sampling", "skipped"),
    ]
