"""The tutorials in docs/: every file is written and every command is run, with pip, outside the repository."""

import difflib
import re
import subprocess

import pytest
from mlflow import MlflowClient

from aebench.testing import autoencoders, tasks

from .conftest import ROOT, environment


class Tutorial:
    """A page of the documentation: the files and commands in its code blocks, in order."""

    def __init__(self, page, venv, folder):
        self.venv, self.folder = venv, folder
        self.blocks = re.findall(r"```(sh|python)\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
        self.changed = {}

    def follow(self):
        """Write every file and run every command; return the output of each command."""
        outputs = {}
        for kind, content in self.blocks:
            if kind == "sh":
                for command in content.strip().splitlines():
                    outputs[command] = self._run(command)
            else:
                comment, _, source = content.partition("\n")
                file = self.folder / comment.removeprefix("# ")
                self.changed[file.name] = _changed_lines(file.read_text(), source)
                file.write_text(source)
        return outputs

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
def follow(venv, tmp_path):
    followed = []

    def follow(page):
        followed.append(Tutorial(page, venv, tmp_path))
        return followed[-1], followed[-1].follow()

    yield follow
    for tutorial in followed:
        names = [file.removesuffix(".py").replace("_", "-") for file in tutorial.changed]
        venv.pip("uninstall", "-y", *names)


def test_write_an_autoencoder(follow, venv, tmp_path):
    tutorial, printed = follow("write-an-autoencoder.md")
    assert 0 < tutorial.changed["aebench_contractive_layer.py"] <= 20
    passed = f"contractive_layer: {len(autoencoders.CHECKS)} checks, none failed"
    assert passed in printed["aebench check contractive_layer"]
    assert f"{len(autoencoders.CHECKS)} passed" in printed["pytest contractive_layer"]
    table = printed["aebench run --models contractive_layer,vanilla"]
    assert re.search(r"│ contractive_layer +│ +0\.\d+ │", table)
    assert re.search(r"│ vanilla +│ +0\.\d+ │", table)
    listed, cells = venv.json(tmp_path, "list"), venv.json(tmp_path, "results")["cells"]
    assert len(cells) == 2 * len(listed["tasks"])
    assert {cell["status"] for cell in cells} == {"ok"}
    runs = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}").search_runs(["1"], "tags.model = 'contractive_layer'")
    assert [run.info.status for run in runs] == ["FINISHED"]
    assert 10 < runs[0].data.metrics["reconstruction.nll"] < 40
    assert "contractive_layer" in [model["name"] for model in listed["models"]]


def test_write_a_task(follow, venv, tmp_path):
    _, printed = follow("write-a-task.md")
    assert f"robustness: {len(tasks.CHECKS)} checks, none failed" in printed["aebench check robustness"]
    assert f"{len(tasks.CHECKS)} passed" in printed["pytest robustness"]
    cells = venv.json(tmp_path, "results")["cells"]
    increase = {cell["model"]: cell["metrics"]["nll_increase"] for cell in cells if cell["task"] == "robustness"}
    assert 0 < increase["denoising"] < increase["vanilla"]
