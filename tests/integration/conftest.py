"""The program as a user runs it: processes, a real store, real plugins."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

AEBENCH = Path(sys.executable).with_name("aebench")


def environment(**more: str) -> dict[str, str]:
    """This environment without what could point at another store."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "AEBENCH"))}
    return kept | more


@dataclass
class Home:
    """A directory in which aebench is run, with its own store."""

    path: Path

    def run(self, *arguments: object, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [AEBENCH, *map(str, arguments)],
            cwd=self.path,
            env=environment(**env),
            capture_output=True,
            text=True,
            timeout=400,
        )
        if code is not None:
            assert done.returncode == code, done.stdout + done.stderr
        return done

    def results(self, *arguments: str) -> dict:
        return json.loads(self.run("results", "--json", *arguments).stdout)

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The whole matrix on digits, run once with a short budget; `log` is what it printed."""
    home = Home(tmp_path_factory.mktemp("matrix"))
    (home.path / "log").write_text(home.run("run", "--epochs", 3).stdout)
    return home


@pytest.fixture
def distribution(tmp_path: Path) -> Callable[[str, str], dict[str, str]]:
    """distribution(name, source): the environment in which this plugin counts as installed."""

    def distribution(name: str, source: str) -> dict[str, str]:
        site = tmp_path / "site"
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (site / f"{name}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (info / "entry_points.txt").write_text(f"[aebench]\n{name} = {name}\n")
        return {"PYTHONPATH": str(site)}

    return distribution
