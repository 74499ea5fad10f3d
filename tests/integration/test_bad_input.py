"""Bad input causes one line on stderr and exit code 2; nothing is written."""

import resource
import signal
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import mlflow
import psutil
import pytest
from torchvision.datasets import KMNIST

from aebench import cli
from tests.integration import bad_inputs

ENOUGH_SECONDS = 60  # far more than any input takes that does not hang
ENOUGH_BYTES = 2**31  # far more than any input takes that is refused before memory is allocated


@pytest.fixture
def limits():
    """Inside, a hang and a growing process become errors."""

    def hang(signum, frame):
        raise TimeoutError(f"no answer after {ENOUGH_SECONDS} s")

    before, handler = resource.getrlimit(resource.RLIMIT_DATA), signal.signal(signal.SIGALRM, hang)
    resource.setrlimit(resource.RLIMIT_DATA, (psutil.Process().memory_info().data + ENOUGH_BYTES, before[1]))
    signal.alarm(ENOUGH_SECONDS)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, handler)
    resource.setrlimit(resource.RLIMIT_DATA, before)


@pytest.fixture
def aebench(tmp_path, monkeypatch, capfd):
    """aebench(arguments...) -> (exit code, lines on stderr), in a directory that must stay empty."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    mlflow.set_tracking_uri(None)  # forgets the store of another test
    for variable in ("MLFLOW_TRACKING_URI", "AEBENCH_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)

    def aebench(*arguments):
        monkeypatch.setattr(sys, "argv", ["aebench", *map(str, arguments)])
        code = cli.execute()
        captured = capfd.readouterr()
        assert captured.out == ""
        assert list(home.iterdir()) == []
        return code, captured.err.splitlines()

    return aebench


def test_names_of_bad_inputs_are_unique():
    names = [case.name for case in bad_inputs.ALL]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("case", bad_inputs.ALL, ids=lambda case: case.name)
def test_one_line_and_exit_code_2(aebench, tmp_path, monkeypatch, limits, case):
    monkeypatch.setattr(KMNIST, "mirrors", ["http://127.0.0.1:9/"])
    (tmp_path / "file").write_text("")
    folder = tmp_path / "input"
    folder.mkdir()
    for variable, value in case.env.items():
        monkeypatch.setenv(variable, value.format(folder=tmp_path))
    code, lines = aebench(*case.write(folder))
    assert code == 2
    (line,) = lines
    assert line.startswith("aebench: ")
    assert case.expected in line
    assert line.isprintable()
    assert not (folder / "unpickled").exists()


def test_each_mistake_in_a_file_has_its_line(aebench, tmp_path):
    file = tmp_path / "bench.yaml"
    file.write_text("models: [veae]\ntraining: {epochs: 0}\nsede: 3\n")
    code, lines = aebench("run", "--config", file)
    assert code == 2
    assert len(lines) == 3
    for word in ("models[0]", "training.epochs", "sede"):
        assert any(word in line for line in lines)


def test_a_missing_network(aebench, tmp_path, monkeypatch):
    from torchvision.datasets import MNIST

    monkeypatch.setattr(MNIST, "mirrors", ["http://127.0.0.1:9/"])
    code, (line,) = aebench("run", "--dataset", "mnist", "--data-dir", tmp_path / "data")
    assert code == 2
    assert "could not be downloaded" in line
    assert "without a network" in line


def test_a_file_that_is_not_a_database(aebench, tmp_path):
    (tmp_path / "mlflow.db").write_text("this is not a database " * 100)
    code, (line,) = aebench("run", "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}")
    assert code == 2
    assert "does not answer: " in line


@pytest.mark.parametrize("status", [404, 503])
@pytest.mark.parametrize("command", ["run", "results"])
def test_a_server_that_is_not_an_mlflow_server(aebench, status, command):
    class Refusing(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_error(status)

        def log_message(self, *arguments):
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        uri = f"http://127.0.0.1:{server.server_port}"
        code, (line,) = aebench(command, "--tracking-uri", uri)
        server.shutdown()
    assert code == 2
    assert f"{uri} does not answer: {status}" in line
