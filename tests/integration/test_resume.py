"""Interrupted runs: finished results are kept, and no MLflow run stays open."""

import os
import signal
import subprocess
import time

import psutil
import pytest
from mlflow import MlflowClient

from .conftest import AEBENCH, environment

HELD = """
import os, time
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl

class Held(Autoencoder):
    def loss(self, x, generator):
        while os.path.exists("hold"):
            time.sleep(0.05)
        return super().loss(x, generator)

def build(spec):
    return Held(spec, spec.encoder(spec.latent_dim), spec.decoder())

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="held", title="Held", summary="its training waits while `hold` exists", build=build)]
"""
COMMAND = ("run", "--epochs", "3", "--models", "shallow,held", "--tasks", "reconstruction,interpolation")
STORED = {"cell.reconstruction.status": "ok", "cell.interpolation.status": "ok"}


def _runs(home):
    client = MlflowClient(home.uri)
    experiments = [e.experiment_id for e in client.search_experiments() if e.name != "Default"]
    return client.search_runs(experiments) if experiments else []


def _wait_until(condition, seconds=240):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition did not become true in time"
        time.sleep(0.2)


@pytest.fixture
def plugin(distribution):
    """The environment in which the model `held` is installed."""
    return distribution("held", HELD)


@pytest.fixture
def interrupted(home, plugin):
    """interrupted(signal, ...): a run that is stopped when all of `shallow` is stored and `held` is being trained.

    `held` is released when the first of several signals has been sent, unless there are two.
    """

    def interrupted(*stops):
        (home.path / "hold").touch()
        with (home.path / "log").open("w") as log:
            process = subprocess.Popen(
                [AEBENCH, *COMMAND],
                cwd=home.path,
                env=environment(**plugin),
                stdout=log,
                stderr=log,
                # A shell that starts the tests in the background has SIGINT ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        _wait_until(lambda: "shallow × interpolation" in (home.path / "log").read_text())
        _wait_until(lambda: any(STORED.items() <= run.data.tags.items() for run in _runs(home)))
        workers = psutil.Process(process.pid).children(recursive=True)
        for stop in stops:
            os.kill(process.pid, stop)
            if stop == signal.SIGINT and stops == (stop,):
                (home.path / "hold").unlink()
            elif stops.count(stop) > 1:
                _wait_until(lambda: "another Ctrl-C stops at once" in (home.path / "log").read_text())
        try:
            code = process.wait(60)
        finally:
            process.kill()
        _, alive = psutil.wait_procs(workers, timeout=30)
        assert alive == []
        (home.path / "hold").unlink(missing_ok=True)
        return code

    return interrupted


@pytest.mark.parametrize(
    ("stops", "code"),
    [((signal.SIGTERM,), 143), ((signal.SIGINT,), 130), ((signal.SIGINT, signal.SIGINT), 130), ((signal.SIGHUP,), 129)],
)
def test_a_signal_closes_every_run(interrupted, home, stops, code):
    assert interrupted(*stops) == code
    assert ("the same command resumes the run" in (home.path / "log").read_text()) == (stops[0] == signal.SIGINT)
    runs = _runs(home)
    statuses = {run.data.tags.get("model", "parent"): run.info.status for run in runs if run.info.status != "FINISHED"}
    assert statuses == {"parent": "KILLED", "held": "KILLED"}


def test_the_next_command_closes_a_killed_run(interrupted, home):
    assert interrupted(signal.SIGKILL) == -signal.SIGKILL
    assert "RUNNING" in {run.info.status for run in _runs(home)}
    pending = {(cell["model"], cell["status"]) for cell in home.results()["cells"]}
    assert pending == {("shallow", "ok"), ("held", "pending")}
    home.call("run", "--epochs", 1, "--models", "shallow", "--tasks", "reconstruction")
    assert {run.info.status for run in _runs(home)} == {"FINISHED", "KILLED"}


def test_the_same_command_resumes_the_same_runs(interrupted, home, plugin):
    interrupted(signal.SIGKILL)
    before = len(_runs(home))
    done = home.run(*COMMAND, **plugin)
    assert "1 trainings, cells run: 2 ok, reused: 2" in done.stdout
    assert {run.info.status for run in _runs(home)} == {"FINISHED"}
    assert len(_runs(home)) == before  # the same parent and children were resumed
    assert {cell["status"] for cell in home.results()["cells"]} == {"ok"}


def test_a_new_task_reuses_the_trained_weights(home):
    arguments = ("run", "--epochs", 2, "--models", "vae", "--tasks")
    home.call(*arguments, "reconstruction,sampling")
    expected = home.results()["cells"][0]["metrics"]
    done = home.call(*arguments, "reconstruction,interpolation")
    assert "0 trainings, cells run: 1 ok, reused: 1" in done.stdout
    cells = {cell["task"]: cell for cell in home.results()["cells"]}
    assert cells["reconstruction"]["metrics"] == expected
    home.call(*arguments, "interpolation", "--fresh")
    assert home.results()["cells"][0]["metrics"] == cells["interpolation"]["metrics"]


FRAGILE = """
import os, signal
from aebench.contracts import Autoencoder, AutoencoderRecord, TaskRecord, Metric, Evaluation, hookimpl

class Fragile(Autoencoder):
    def __init__(self, spec, behaviour):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.behaviour = behaviour
    def loss(self, x, generator):
        if self.behaviour == "killed": os.kill(os.getpid(), signal.SIGKILL)
        if self.behaviour == "raising": raise RuntimeError("cannot\\nlearn")
        return super().loss(x, generator)

def build(behaviour):
    def build(spec):
        if behaviour == "unbuilt": raise ValueError("no such shape")
        return Fragile(spec, behaviour)
    return build

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name=behaviour, title=behaviour, summary="-", build=build(behaviour))
            for behaviour in ("killed", "raising", "unbuilt", "healthy")]

def wrong(model, data, context): return Evaluation({"b": 1.0})
def slash(model, data, context): return Evaluation({"a": 1.0}, images={"../x": None})
def nan(model, data, context): return Evaluation({"a": float("nan")})
def broken(model, data, context): return 1 / 0

@hookimpl
def aebench_tasks():
    a = Metric("a", "A", higher_is_better=False, primary=True)
    return [TaskRecord(name=f.__name__, title="T", summary="-", evaluate=f, metrics=(a,))
            for f in (wrong, nan, broken, slash)]
"""


def test_a_plugin_that_fails_costs_only_its_own_cells(home, distribution):
    env = distribution("fragile", FRAGILE)
    arguments = (
        "--epochs",
        1,
        "--models",
        "killed,raising,unbuilt,healthy",
        "--tasks",
        "wrong,nan,broken,slash,reconstruction",
    )
    done = home.run("run", *arguments, code=1, **env)
    cells = {(cell["model"], cell["task"]): cell for cell in home.results()["cells"]}
    assert len(cells) == 20
    for task in ("wrong", "nan", "broken", "slash", "reconstruction"):
        assert "worker process died (SIGKILL" in cells["killed", task]["reason"]
        assert cells["raising", task]["reason"] == "training: RuntimeError: cannot learn"
        assert cells["unbuilt", task]["reason"] == "training: ValueError: no such shape"
    assert cells["healthy", "reconstruction"]["status"] == "ok"
    assert cells["healthy", "broken"]["reason"] == "ZeroDivisionError: division by zero"
    assert "declares the metrics ['a'] but returned ['b']" in cells["healthy", "wrong"]["reason"]
    assert "returned a file named '../x'" in cells["healthy", "slash"]["reason"]
    assert cells["healthy", "nan"]["status"] == "ok"
    assert cells["healthy", "nan"]["metrics"] == {"a": None}
    assert "healthy × broken" in done.stdout
    statuses = {run.data.tags.get("model", "parent"): run.info.status for run in _runs(home)}
    assert set(statuses.values()) == {"FAILED"}
    (healthy,) = [run for run in _runs(home) if run.data.tags.get("model") == "healthy"]
    assert "nan.a" not in healthy.data.metrics
    assert "1 / 0" in (home.path / healthy.info.artifact_uri / "broken" / "error.txt").read_text()
    again = home.run("run", *arguments, code=1, **env)
    assert "reused: 2" in again.stdout  # failed cells are run again, successful ones are not
