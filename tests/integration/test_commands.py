"""Commands other than `run`, each in a process of its own."""

import contextlib
import json
import re
import socket
import subprocess
import sys
import time
import urllib.request

import psutil
import pytest
from mlflow import MlflowClient

from aebench.cli.commands import app

from .conftest import AEBENCH, environment


def test_help_names_every_command(home):
    text = home.run("--help").stdout
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        assert re.search(rf"\b{name}\b", text)


def test_help_imports_nothing_heavy():
    """Importing PyTorch alone takes a second."""
    program = (
        "import sys\n"
        "from aebench.cli import execute\n"
        "sys.argv = ['aebench', '--help']\n"
        "execute()\n"
        "assert not {'torch', 'mlflow', 'numpy', 'aebench.contracts'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


def test_version(home):
    assert re.fullmatch(r"aebench \d+\.\d+\.\d+\n", home.run("--version").stdout)


def test_list_as_json(home, registry):
    listed = json.loads(home.run("list", "--json").stdout)
    assert set(listed) == {"models", "tasks", "datasets", "backbones", "samplers", "studies", "unavailable", "failures"}
    assert {model["name"] for model in listed["models"]} == set(registry.autoencoders)
    strict = next(model for model in listed["models"] if model["name"] == "beta_vae_strict")
    assert strict["distribution"] == "aebench-beta-vae"
    assert strict["capabilities"] == ["sample"]
    assert strict["params"] == {"beta": 2.0}
    assert listed["failures"] == []


def test_list_shows_a_failed_plugin_and_all_others(home, distribution, registry):
    env = distribution("broken_plugin", "print('noise')\nimport not_there")
    listed = json.loads(home.run("list", "--json", **env).stdout)
    (failure,) = listed["failures"]
    assert (failure["distribution"], failure["version"], failure["stage"]) == ("broken_plugin", "1.0", "load")
    assert "not_there" in failure["message"]
    assert {model["name"] for model in listed["models"]} == set(registry.autoencoders)
    assert "broken_plugin" in home.run("list", "failures", **env).stdout
    assert "plugin broken_plugin 1.0 is not available" in home.run("plan", "--models", "vae", **env).stderr


def test_ui_serves_the_store_on_the_loopback_address_only(home):
    with _ui(home, _free_port()) as (process, port):
        assert "MLflow" in _get(f"http://127.0.0.1:{port}/")
        assert {address.ip for address in _listening(process.pid)} == {"127.0.0.1"}
    assert f": http://127.0.0.1:{port} (stop with Ctrl-C)\n" in (home.path / "ui_stdout").read_text()
    assert "password" not in (home.path / "ui_stderr").read_text()


def test_ui_says_when_others_can_reach_it(home):
    with _ui(home, _free_port(), "--host", "0.0.0.0") as (process, port):
        assert "MLflow" in _get(f"http://127.0.0.1:{port}/")
        assert {address.ip for address in _listening(process.pid)} == {"0.0.0.0"}
    warning = f"aebench: anybody who reaches 0.0.0.0:{port} can read and delete all results, without a password"
    assert warning in (home.path / "ui_stderr").read_text()


@pytest.mark.parametrize("host", ["", "192.0.2.1", "not a host", "--version", "a" * 300])
def test_ui_refuses_an_address_that_is_not_of_this_machine(home, host):
    done = home.call("ui", f"--host={host}", code=2)
    assert done.stderr.startswith(f"aebench: the UI cannot listen on host '{host}', port 5000 (")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_ui_refuses_a_port_in_use(home):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert f"port {port} (Address already in use)" in home.call("ui", "--port", port, code=2).stderr


def test_ui_refuses_a_store_that_does_not_exist(bare_home):
    assert "there are no results yet" in bare_home.call("ui", code=2).stderr
    assert list(bare_home.path.iterdir()) == []


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextlib.contextmanager
def _ui(home, port, *options):
    """The process of the UI and its port; what it prints is in the files `ui_stdout` and `ui_stderr`."""
    with (home.path / "ui_stdout").open("w") as out, (home.path / "ui_stderr").open("w") as err:
        process = subprocess.Popen(
            [AEBENCH, "ui", "--port", str(port), *options], cwd=home.path, env=environment(), stdout=out, stderr=err
        )
    try:
        yield process, port
    finally:
        for child in psutil.Process(process.pid).children(recursive=True):
            child.kill()
        process.kill()
        process.wait()


def _listening(pid):
    """Addresses at which a process and its descendants listen; a process that ends meanwhile has none."""
    server = psutil.Process(pid)
    for process in (server, *server.children(recursive=True)):
        with contextlib.suppress(psutil.NoSuchProcess, FileNotFoundError):
            yield from [c.laddr for c in process.net_connections("inet") if c.status == "LISTEN"]


def _get(url):
    end = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                return answer.read().decode()
        except OSError:
            if time.monotonic() > end:
                raise
            time.sleep(0.3)


def test_several_seeds(home):
    done = home.call(
        "run",
        "--epochs",
        1,
        "--models",
        "shallow,pca",
        "--tasks",
        "reconstruction",
        "--seeds",
        3,
        "--experiment",
        "mine",
    )
    assert "(2)" in done.stdout
    results = home.results("mine")
    assert json.loads(home.call("results", "--experiment", "mine", "--json").stdout) == results
    assert results["rankings"]["reconstruction"]["groups"] == [["pca"], ["shallow"]]
    client = MlflowClient(home.uri)
    (parent,) = client.search_runs(["1"], "tags.`aebench.kind` = 'matrix'")
    assert [file.path for file in client.list_artifacts(parent.info.run_id, "rankings")] == [
        "rankings/reconstruction.png"
    ]
    cells = [cell for cell in results["cells"] if cell["model"] == "shallow"]
    comparison = home.call("compare", "--experiment", "mine").stdout
    assert "has no figures for digits" in comparison
    assert "vanilla is not in the matrix" in " ".join(comparison.split())
    (as_json,) = json.loads(home.call("compare", "--experiment", "mine", "--json").stdout)
    assert {verdict["verdict"] for verdict in as_json["verdicts"]} == {"undecided"}
    assert "wrote page.md" in home.call("compare", "--experiment", "mine", "--out", "page.md").stdout
    assert (home.path / "page.md").read_text().startswith("# The Great Autoencoder Bake Off, put to the test")
    assert "cannot be written" in home.call("compare", "--out", "no/page.md", code=2).stderr
    assert home.call("results", "--experiment", "other", code=2).stderr.startswith("aebench: no results in experiment")
    assert [cell["seed"] for cell in cells] == [0, 1, 2]
    assert len({cell["metrics"]["nll"] for cell in cells}) == 3


def test_precision_changes_the_training_and_is_stored(home):
    arguments = ("--epochs", 1, "--models", "shallow", "--tasks", "reconstruction")
    found = {}
    for precision in ("fp32", "bf16"):
        assert precision in home.call("plan", *arguments, "--precision", precision).stdout
        home.call("run", *arguments, "--precision", precision)
        found[precision] = home.results()["cells"][0]["metrics"]["nll"]
    assert found["bf16"] != found["fp32"]
    assert abs(found["bf16"] - found["fp32"]) < 0.02 * found["fp32"]
    runs = MlflowClient(home.uri).search_runs(["1"])
    recorded = {
        run.data.params["train.precision"]: run.data.metrics["reconstruction.nll"]
        for run in runs
        if "train.precision" in run.data.params
    }
    assert recorded == found


def test_a_data_set_of_arrays_without_labels(home):
    import numpy as np

    np.savez(home.path / "mine.npz", x=np.random.default_rng(0).integers(256, size=(300, 9, 7, 3), dtype=np.uint8))
    home.call("run", "--epochs", 1, "--models", "vae", "--dataset", "mine.npz")
    statuses = {cell["task"]: cell["reason"] or cell["status"] for cell in home.results()["cells"]}
    assert statuses == {
        "anomaly_detection": "npz has no labels",
        "classification": "npz has no labels",
        "latent_structure": "npz has no labels",
        "interpolation": "ok",
        "reconstruction": "ok",
        "sampling": "ok",
    }


def test_check_prints_a_line_for_each_check_and_nothing_on_stderr(home):
    done = home.run("check", "raw_pixels")
    assert re.search(r"raw_pixels: \d+ checks, none failed", done.stdout)
    assert done.stderr == ""


def test_check_fails_for_a_defective_plugin(home, distribution):
    source = """
from aebench.contracts import Autoencoder, AutoencoderRecord, hookimpl
@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="idle", title="Idle", summary="does nothing", build=Autoencoder)]
"""
    done = home.run("check", "idle", code=1, **distribution("aebench-idle".replace("-", "_"), source))
    assert "FAILED  shapes_and_dtypes" in done.stdout
    assert "expected: " in done.stdout
    assert "docs: aebench.contracts" in done.stdout
    assert home.run("check", "vanila", code=2).stderr.startswith(
        "aebench: nothing is registered as 'vanila'; did you mean 'vanilla'?"
    )


def test_new_refuses_bad_names_and_never_overwrites(bare_home):
    bare_home.call("new", "task", "mine")
    before = {path.name: path.read_text() for path in (bare_home.path / "mine").iterdir()}
    assert len(before) == 4
    assert "exists already" in bare_home.call("new", "autoencoder", "mine", code=2).stderr
    assert {path.name: path.read_text() for path in (bare_home.path / "mine").iterdir()} == before
    assert "must match" in bare_home.call("new", "task", "../up", code=2).stderr
    assert [path.name for path in bare_home.path.iterdir()] == ["mine"]


def test_the_held_out_class_rotates(bare_home):
    (bare_home.path / "bench.yaml").write_text(
        "models: [shallow]\n"
        "tasks: [anomaly_detection, reconstruction]\n"
        "training: {epochs: 1}\n"
        "profiles: {anomaly: {latent_dim: 2, held_out: [1, 7]}}\n"
    )
    assert "3 trainings" in bare_home.call("run", "--config", "bench.yaml").stdout
    cells = bare_home.results()["cells"]
    parts = {cell["held_out"]: cell["metrics"] for cell in cells if cell["task"] == "anomaly_detection"}
    assert set(parts) == {1, 7}
    client = MlflowClient(bare_home.uri)
    experiment = client.get_experiment_by_name("aebench-digits")
    (run,) = client.search_runs([experiment.experiment_id], "tags.`aebench.kind` = 'model'")
    for name in ("auroc", "average_precision"):
        each = [run.data.metrics[f"anomaly_detection.without_{held_out}.{name}"] for held_out in (1, 7)]
        assert each == [parts[1][name], parts[7][name]]
        assert run.data.metrics[f"anomaly_detection.{name}"] == pytest.approx(sum(each) / 2)
    assert run.data.params["train.anomaly_without_7.held_out"] == "7"
    for held_out in (1, 7):
        assert {file.path for file in client.list_artifacts(run.info.run_id, f"anomaly_detection/without_{held_out}")}
    # A matrix with class 1 as its only held-out class has the same training.
    done = bare_home.call("run", "--models", "shallow", "--tasks", "anomaly_detection", "--epochs", 1)
    assert "0 trainings, cells run: 0, reused: 1" in done.stdout
    assert "3 trainings" not in bare_home.call("run", "--config", "bench.yaml").stdout
