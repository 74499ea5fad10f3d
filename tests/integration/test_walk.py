"""The walks in the documentation, taken word for word by a new user: real installs, far from the repository."""

import difflib
import re
import subprocess

import pytest
from mlflow import MlflowClient

from .conftest import ROOT, environment


class Walk:
    """A page of the documentation: its files and its commands, in order."""

    def __init__(self, page, venv, folder):
        self.venv, self.folder = venv, folder
        self.blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
        self.changed = {}

    def take(self):
        """Write every file, run every command; returns what the commands printed, by command."""
        printed = {}
        for kind, content in self.blocks:
            if kind == "sh":
                for command in content.strip().splitlines():
                    printed[command] = self._run(command)
            else:
                comment, _, source = content.partition("\n")
                file = self.folder / comment.removeprefix("# ")
                self.changed[file.name] = _changed_lines(file.read_text(), source)
                file.write_text(source)
        return printed

    def _run(self, command):
        env = environment(
            PATH=f"{self.venv.path / 'bin'}:/usr/bin:/bin", PIP_NO_BUILD_ISOLATION="false", PIP_NO_DEPS="true"
        )
        done = subprocess.run(
            ["bash", "-c", command], cwd=self.folder, env=env, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, command + done.stdout + done.stderr
        return done.stdout


def _changed_lines(before, after):
    """Lines of `after` that are not in `before`."""
    matcher = difflib.SequenceMatcher(None, before.splitlines(), after.splitlines(), autojunk=False)
    return sum(end - start for tag, _, _, start, end in matcher.get_opcodes() if tag in ("replace", "insert"))


@pytest.fixture
def walk(venv, tmp_path):
    walks = []

    def walk(page):
        walks.append(Walk(page, venv, tmp_path))
        return walks[-1], walks[-1].take()

    yield walk
    for taken in walks:
        names = [file.removesuffix(".py").replace("_", "-") for file in taken.changed]
        venv.pip("uninstall", "-y", *names)


def test_write_an_autoencoder(walk, venv, tmp_path):
    taken, printed = walk("write-an-autoencoder.md")
    assert 0 < taken.changed["aebench_contractive.py"] <= 20
    assert "contractive: 16 checks, none failed" in printed["aebench check contractive"]
    assert "16 passed" in printed["pytest contractive"]
    table = printed["aebench run --models contractive,vanilla"]
    assert re.search(r"│ contractive +│ +0\.\d+ │", table)
    assert re.search(r"│ vanilla +│ +0\.\d+ │", table)
    assert "10 ok, 2 skipped" in table
    runs = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["1"], "tags.model = 'contractive'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert 10 < runs[0].data.metrics["reconstruction.bce"] < 40
    assert "contractive" in [model["name"] for model in venv.json(tmp_path, "list")["models"]]


def test_write_a_task(walk, venv, tmp_path):
    _, printed = walk("write-a-task.md")
    assert "robustness: 9 checks, none failed" in printed["aebench check robustness"]
    assert "9 passed" in printed["pytest robustness"]
    cells = venv.json(tmp_path, "results")["cells"]
    increase = {cell["model"]: cell["metrics"]["bce_increase"] for cell in cells if cell["task"] == "robustness"}
    assert 0 < increase["denoising"] < increase["vanilla"]
