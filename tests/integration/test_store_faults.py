"""A store that is locked, full, read-only, away, half made or used by two runs: no result is lost or computed twice."""

import contextlib
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time

import psutil
import pytest
from mlflow import MlflowClient

from aebench.tracking.connection import create_database
from aebench.tracking.store import Store

from .conftest import AEBENCH, Home, environment

# `held` trains when the file `hold` is gone; `counted` appends a line to `evaluations` each time.
PLUGIN = """
import os, time
from aebench.contracts import Autoencoder, AutoencoderRecord, Evaluation, Metric, TaskRecord, hookimpl

class Held(Autoencoder):
    def loss(self, x, generator):
        while os.path.exists("hold"):
            time.sleep(0.05)
        return super().loss(x, generator)

class Quick(Autoencoder):
    pass

def building(kind):
    return lambda spec: kind(spec, spec.encoder(spec.latent_dim), spec.decoder())

def counted(model, data, context):
    with open("evaluations", "a") as file:
        print(type(model).__name__, file=file)
    x = data.test.x(slice(100))
    return Evaluation({"error": float((model.reconstruct(x) - x).square().mean())})

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name=kind.__name__.lower(), title=kind.__name__, summary="-", build=building(kind))
            for kind in (Held, Quick)]

@hookimpl
def aebench_tasks():
    error = Metric("error", "Error", higher_is_better=False, primary=True)
    return [TaskRecord(name="counted", title="Counted", summary="-", evaluate=counted, metrics=(error,))]
"""
COMMAND = ("run", "--epochs", "2", "--jobs", "1", "--models", "quick,held")


@pytest.fixture
def plugin(distribution):
    """The environment in which the plugin above is the only one."""
    return {**distribution("counting", PLUGIN), "AEBENCH_LOAD_PLUGINS": "counting"}


class Started:
    """A run in the background, whose model `held` waits until it is released."""

    def __init__(self, folder, arguments=COMMAND, **env):
        self.folder = folder
        (folder / "hold").touch()
        self.log = folder / "log"
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [AEBENCH, *arguments], cwd=folder, env=environment(**env), stdout=log, stderr=log
            )

    def wait_for(self, text):
        """Wait until the run has printed this."""
        deadline = time.monotonic() + 200
        while text not in self.log.read_text():
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.1)

    def release(self):
        (self.folder / "hold").unlink()

    def end(self):
        """Wait for the end of the run; return its exit code."""
        return self.process.wait(300)


@pytest.fixture
def start():
    """start(folder, ...): a run in the background, see `Started`."""
    started = []

    def start(*arguments, **options):
        started.append(Started(*arguments, **options))
        return started[-1]

    yield start
    for run in started:
        run.process.kill()
        run.process.wait()


@contextlib.contextmanager
def _locked(file):
    """Another process writes to the database for as long as the block lasts."""
    connection = sqlite3.connect(file, isolation_level=None)
    connection.execute("begin exclusive")
    try:
        yield
    finally:
        connection.execute("rollback")
        connection.close()


def _evaluations(home):
    return sorted((home.path / "evaluations").read_text().split())


def _check(home, uri=None):
    """Every cell is ok, was evaluated once and is stored once; no run is open, and the database is whole."""
    with contextlib.chdir(home.path):
        cells = Store(uri or home.uri, "aebench-digits").results().to_json()["cells"]
    assert {(cell["model"], cell["status"]) for cell in cells} == {("quick", "ok"), ("held", "ok")}
    assert _evaluations(home) == ["Held", "Quick"]
    client = MlflowClient(home.uri)
    runs = client.search_runs([client.get_experiment_by_name("aebench-digits").experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 3
    with contextlib.closing(sqlite3.connect(home.path / "mlflow.db")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def test_a_database_that_is_locked_for_a_while_is_waited_for(home, plugin, start):
    run = start(home.path, **plugin)
    run.wait_for("quick × counted")
    with _locked(home.path / "mlflow.db"):
        run.release()
        run.wait_for("does not answer, trying again: ")
    assert run.end() == 0
    assert "answers again" in run.log.read_text()
    _check(home)


def test_what_a_locked_database_does_not_take_is_stored_by_the_next_run(home, plugin, start):
    run = start(home.path, **plugin, AEBENCH_STORE_SECONDS="1")
    run.wait_for("quick × counted")
    with _locked(home.path / "mlflow.db"):
        run.release()
        assert run.end() == 2
    assert "results are kept in" in run.log.read_text()
    assert "stored by the next 'aebench run' with this store" in run.log.read_text()
    assert "Traceback" not in run.log.read_text()
    assert _evaluations(home) == ["Held", "Quick"]
    again = home.run(*COMMAND, **plugin)
    assert "an earlier run was interrupted" in again.stdout
    assert "0 trainings, cells run: 0, reused: 2" in again.stdout
    _check(home)


def test_a_database_that_may_not_grow_is_waited_for(home, plugin, start):
    """The limit on the size of files makes writes fail like a full disk."""
    run = start(home.path, **plugin)
    run.wait_for("quick × counted")
    driver = psutil.Process(run.process.pid)
    before = driver.rlimit(psutil.RLIMIT_FSIZE)
    driver.rlimit(psutil.RLIMIT_FSIZE, (1 << 16, before[1]))
    run.release()
    run.wait_for("does not answer, trying again: ")
    driver.rlimit(psutil.RLIMIT_FSIZE, before)
    assert run.end() == 0
    _check(home)


@pytest.fixture
def small_disk(tmp_path):
    """A folder on a file system of its own, with 16 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=16m", "aebench-test", folder]
    if sys.platform != "linux" or shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        pytest.skip("mounting a file system needs privileges")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def _fill(folder):
    file = folder / "fills-the-disk"
    with contextlib.suppress(OSError), file.open("wb") as stream:
        while True:
            stream.write(bytes(1 << 12))
            stream.flush()
    return file


def test_a_disk_that_is_full_for_a_while_is_waited_for(small_disk, empty_store, plugin, start):
    shutil.copy(empty_store, small_disk / "mlflow.db")
    home = Home(small_disk)
    run = start(small_disk, **plugin)
    run.wait_for("quick × counted")
    filling = _fill(small_disk)
    run.release()
    run.wait_for("held × ")
    filling.unlink()
    assert run.end() == 0
    assert "answers again" in run.log.read_text()
    _check(home)


def test_a_folder_that_is_read_only_for_a_while_is_waited_for(small_disk, tmp_path, empty_store, plugin, start):
    shutil.copy(empty_store, small_disk / "mlflow.db")
    run = start(tmp_path, **plugin, MLFLOW_TRACKING_URI=f"sqlite:///{small_disk}/mlflow.db")
    run.wait_for("quick × counted")
    # A second mount over the first one: the first one cannot become read-only while files are open.
    subprocess.run(["mount", "--bind", small_disk, small_disk], check=True)
    subprocess.run(["mount", "-o", "remount,bind,ro", small_disk], check=True)
    try:
        run.release()
        run.wait_for("does not answer, trying again: ")
    finally:
        subprocess.run(["umount", small_disk], check=True)
    assert run.end() == 0
    shutil.copy(small_disk / "mlflow.db", tmp_path / "mlflow.db")
    _check(Home(tmp_path))


def _server(home, port):
    command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", home.uri, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--workers", "1", "--artifacts-destination", str(home.path / "artifacts")]
    with (home.path / "server-log").open("a") as log:
        server = subprocess.Popen(command, cwd=home.path, env=environment(), stdout=log, stderr=log, process_group=0)
    deadline = time.monotonic() + 200
    while True:
        assert time.monotonic() < deadline, (home.path / "server-log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return server
        time.sleep(0.2)


def _kill(server):
    os.killpg(server.pid, signal.SIGKILL)
    server.wait(30)


def test_a_server_that_is_away_for_a_while_is_waited_for(home, plugin, start):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = _server(home, port)
    try:
        run = start(home.path, **plugin, MLFLOW_TRACKING_URI=f"http://127.0.0.1:{port}")
        run.wait_for("quick × counted")
        _kill(server)
        run.release()
        run.wait_for("does not answer, trying again: ")
        server = _server(home, port)
        assert run.end() == 0
        assert "answers again" in run.log.read_text()
        _check(home, f"http://127.0.0.1:{port}")
    finally:
        _kill(server)


def test_a_database_that_was_left_half_made_is_made_anew(bare_home, plugin):
    """MLflow is killed while it makes its tables, as the run of an earlier version was."""
    file = bare_home.path / "mlflow.db"
    making = "from mlflow import MlflowClient; MlflowClient('sqlite:///mlflow.db').search_experiments()"
    process = subprocess.Popen([sys.executable, "-c", making], cwd=bare_home.path, env=environment())
    while not file.exists() or not _tables(file):
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert "experiments" not in _tables(file) or not _rows(file, "experiments")
    os.utime(file, (0, 0))  # nobody has written to it for a while
    bare_home.run(*COMMAND, **plugin)
    _check(bare_home)
    assert [path.name for path in bare_home.path.iterdir() if path.name.startswith("mlflow.db")] == ["mlflow.db"]


def test_a_database_is_in_place_only_when_it_is_whole(bare_home, plugin):
    """Killed at many moments of its first seconds, a run leaves no database, or one that can be used."""
    for moment in range(6):
        process = subprocess.Popen(
            [AEBENCH, *COMMAND], cwd=bare_home.path, env=environment(**plugin), stdout=subprocess.DEVNULL
        )
        while process.poll() is None and not (bare_home.path / "mlflow.db.part").exists():
            time.sleep(0.01)
        time.sleep(0.3 * moment)
        process.kill()
        process.wait()
        if (bare_home.path / "mlflow.db").exists():
            assert _rows(bare_home.path / "mlflow.db", "experiments")
            break
    bare_home.run(*COMMAND, **plugin)
    assert {cell["status"] for cell in bare_home.results()["cells"]} == {"ok"}
    assert not (bare_home.path / "mlflow.db.part").exists()


def _tables(file):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return {name for (name,) in connection.execute("select name from sqlite_master where type = 'table'")}


def _rows(file, table):
    with contextlib.closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"select * from {table}").fetchall()


@pytest.mark.parametrize(
    "statement", ["create table mine (id)", "create table experiments (id); create table mine (id)"]
)
def test_a_database_of_another_program_is_not_replaced(tmp_path, statement):
    file = tmp_path / "mine.db"
    with contextlib.closing(sqlite3.connect(file)) as connection:
        connection.executescript(statement)
    before = file.read_bytes()
    create_database(f"sqlite:///{file}")
    assert file.read_bytes() == before


def test_two_runs_on_a_store_that_does_not_exist_share_the_work(bare_home, plugin, start):
    work = {"AEBENCH_WORK_DIR": str(bare_home.path / "work")}
    first = start(bare_home.path, **plugin, **work)
    second = start(bare_home.path, **plugin, **work)
    first.wait_for("waiting for it")
    first.release()
    assert (first.end(), second.end()) == (0, 0), first.log.read_text()
    _check(bare_home)


def test_two_runs_that_overlap_compute_what_they_share_once(home, plugin, start):
    first = start(home.path, ("run", "--epochs", "2", "--models", "held"), **plugin)
    first.wait_for("1 to do")
    second = start(home.path, COMMAND, **plugin)
    second.wait_for("waiting for it")
    first.release()
    assert (first.end(), second.end()) == (0, 0), first.log.read_text()
    assert _evaluations(home) == ["Held", "Quick"]
    assert {cell["status"] for cell in home.results()["cells"]} == {"ok"}


def test_weights_that_were_changed_in_the_store_are_not_used(home, plugin):
    arguments = ("run", "--epochs", "2", "--models", "quick", "--tasks")
    plugin = plugin | {"AEBENCH_LOAD_PLUGINS": "counting,aebench-tasks"}
    home.run(*arguments, "counted", **plugin)
    (weights,) = home.path.rglob("weights/general.safetensors")
    content = bytearray(weights.read_bytes())
    content[-10] ^= 1
    weights.write_bytes(content)
    done = home.run(*arguments, "counted,reconstruction", **plugin)
    assert "are damaged" in done.stdout
    assert "1 trainings, cells run: 1 ok, reused: 1" in done.stdout
