"""Fixtures that run the program as a user does: processes, an MLflow store, installed plugins."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import mlflow
import pytest
from mlflow import MlflowClient

from aebench import cli
from aebench.tracking.store import Store, newest_experiment

ROOT = Path(__file__).parents[2]
AEBENCH = Path(sys.executable).with_name("aebench")
WORK = Path(tempfile.gettempdir(), f"aebench-tests-{os.getpid()}")


def environment(**more: str) -> dict[str, str]:
    """This process's environment, with another work folder, and without variables that select a store or plugins."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "AEBENCH"))}
    return kept | {"AEBENCH_WORK_DIR": str(WORK)} | more


@dataclass
class Home:
    """A directory in which aebench is run, with its own store."""

    path: Path

    def run(self, *arguments: object, code: int | None = 0, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the installed command; a code of None allows any exit code."""
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

    def call(self, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
        """Like `run`, but in this process, which has imported PyTorch and MLflow already: seconds less each time."""
        out, err = io.StringIO(), io.StringIO()
        mlflow.set_tracking_uri(self.uri)  # this process would go on with the store of the last run
        with (
            contextlib.chdir(self.path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            mock.patch.dict(os.environ, environment(), clear=True),
            mock.patch.object(sys, "argv", ["aebench", *map(str, arguments)]),
        ):
            done = subprocess.CompletedProcess(sys.argv, cli.execute(), out.getvalue(), err.getvalue())
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def results(self, experiment: str | None = None) -> dict:
        """What `aebench results --json` prints; reading the store here spares a process that imports MLflow."""
        with contextlib.chdir(self.path):  # paths of artifacts are relative to where the matrix was run
            store = Store(self.uri, experiment or newest_experiment(self.uri))
            return json.loads(json.dumps(store.results().to_json()))

    @property
    def uri(self) -> str:
        return f"sqlite:///{self.path / 'mlflow.db'}"


@pytest.fixture(scope="session", autouse=True)
def _work_folder() -> Iterator[None]:
    """The work folder of all runs; no run may leave anything in it but checkpoints."""
    yield
    left = [*WORK.glob("runs/*")]
    shutil.rmtree(WORK, ignore_errors=True)
    assert left == []


@pytest.fixture
def bare_home(tmp_path: Path) -> Home:
    """An empty directory."""
    return Home(tmp_path)


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes seconds to make its tables; once is enough for most tests."""
    path = tmp_path_factory.mktemp("store") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def home(bare_home: Home, empty_store: Path) -> Home:
    """A directory that contains only a store without results."""
    shutil.copy(empty_store, bare_home.path / "mlflow.db")
    return bare_home


@pytest.fixture(scope="session")
def matrix(tmp_path_factory: pytest.TempPathFactory) -> Home:
    """The whole matrix on digits, run once with a short budget; `log` and `stderr` are what it printed."""
    home = Home(tmp_path_factory.mktemp("matrix"))
    done = home.run("run", "--epochs", 3)
    (home.path / "log").write_text(done.stdout)
    (home.path / "stderr").write_text(done.stderr)
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


@dataclass
class Environment:
    """A virtual environment into which pip installs."""

    path: Path

    def pip(self, verb: str, *arguments: object) -> None:
        options = ["--no-deps", "--no-build-isolation"] if verb == "install" else []
        python = self.path / "bin" / "python"
        command = [python, "-m", "pip", "--disable-pip-version-check", verb, "-q", *options, *map(str, arguments)]
        subprocess.run(command, check=True, env=environment(), capture_output=True)

    def aebench(
        self, cwd: Path, *arguments: object, code: int = 0, program: str = "aebench", **env: str
    ) -> subprocess.CompletedProcess[str]:
        command = [self.path / "bin" / program, *map(str, arguments)]
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment(**env), timeout=400)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    def json(self, cwd: Path, command: str, **env: str) -> dict:
        return json.loads(self.aebench(cwd, command, "--json", **env).stdout)


@pytest.fixture(scope="session")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """A virtual environment with aebench and the plugins in requirements.txt; other packages are links to this one."""
    folder = tmp_path_factory.mktemp("venv")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    site = next((folder / "lib").glob("python*")) / "site-packages"
    for entry in Path(sysconfig.get_paths()["purelib"]).iterdir():
        if not entry.name.startswith(("aebench", "_aebench")) and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    for program, module in (("pip", "pip"), ("pytest", "pytest")):
        script = folder / "bin" / program
        script.write_text(f'#!/bin/sh\nexec "{folder}/bin/python" -m {module} "$@"\n')
        script.chmod(0o755)
    made = Environment(folder)
    own = re.findall(r"^-e (\S+)$", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    made.pip("install", *(ROOT / folder for folder in own))
    return made
