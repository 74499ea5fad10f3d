"""Bad input causes one line on stderr and exit code 2; nothing is written."""

import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import numpy as np
import pytest

from aebench import cli


@pytest.fixture
def aebench(tmp_path, monkeypatch, capsys):
    """aebench(arguments...) -> (exit code, lines on stderr), in a directory that must stay empty."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.chdir(home)
    for variable in ("MLFLOW_TRACKING_URI", "AEBENCH_DATA_DIR"):
        monkeypatch.delenv(variable, raising=False)

    def aebench(*arguments):
        monkeypatch.setattr(sys, "argv", ["aebench", *map(str, arguments)])
        code = cli.execute()
        captured = capsys.readouterr()
        assert captured.out == ""
        assert list(home.iterdir()) == []
        return code, captured.err.splitlines()

    return aebench


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("run", "--models", "veae"), "--models: model 'veae' is not registered; did you mean 'vae'?"),
        (("run", "--tasks", "x"), "--tasks: task 'x' is not registered. Available: anomaly_detection"),
        (("run", "--dataset", "mist"), "--dataset: data set 'mist' is not registered; did you mean 'mnist'?"),
        (("run", "--backbones", "cnov"), "--backbones: backbone 'cnov' is not registered; did you mean 'conv'?"),
        (("run", "--backbones", "conv,conv"), "--backbones: 'conv' is listed twice"),
        (("run", "--optoin"), "No such option"),
        (("rum",), "No such command"),
        (("run", "--epochs", 0), "--epochs: input should be greater than 0, got 0"),
        (("run", "--epochs", "x"), "'--epochs'"),
        (("run", "--seeds", 0), "--seeds: input should be greater than 0, got 0"),
        (("run", "--jobs", 0), "'--jobs'"),
        (("run", "--precision", "fp8"), "--precision: input should be 'fp32', 'bf16' or 'auto', got 'fp8'"),
        (("run", "--device", "abacus"), "--device: 'abacus' is not a device"),
        (("run", "--device", "cuda:99"), "--device: 'cuda:99' does not exist"),
        (("run", "--config", "none.yaml"), "none.yaml: cannot be read: No such file"),
        (("run", "--dataset", "./none"), "none is not a folder of images"),
        (("run", "--dataset", "none.npz"), "none.npz cannot be read"),
        (("run", "--tracking-uri", "http://127.0.0.1:9"), "http://127.0.0.1:9 does not answer"),
        (("run", "--tracking-uri", "sqlite:////no/such/folder/mlflow.db"), "cannot be written: no such folder"),
        (("run", "--tracking-uri", "somewhere"), "give a database (sqlite:///mlflow.db) or a server"),
        (("run", "--tracking-uri", "sqlite:////tmp"), "/tmp is a folder, not a database"),
        (("results", "--tracking-uri", "sqlite:////tmp"), "/tmp is a folder, not a database"),
        (("results",), "there are no results yet"),
        (("list", "cars"), "'cars'"),
    ],
)
def test_one_line_and_exit_code_2(aebench, arguments, expected):
    code, lines = aebench(*arguments)
    assert code == 2
    (line,) = lines
    assert line.startswith("aebench: ")
    assert expected in line


def test_each_mistake_in_a_file_has_its_line(aebench, tmp_path):
    file = tmp_path / "bench.yaml"
    file.write_text("models: [veae]\ntraining: {epochs: 0}\nsede: 3\n")
    code, lines = aebench("run", "--config", file)
    assert code == 2
    assert len(lines) == 3
    for word in ("models[0]", "training.epochs", "sede"):
        assert any(word in line for line in lines)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("likelihood: poisson", "likelihood"),
        ("likelihood: {name: gaussian, sigma: 0}", "likelihood.gaussian.sigma"),
        ("likelihood: {name: bernoulli, sigma: 1}", "likelihood.bernoulli.sigma"),
        ("training: {optimizer: adamm}", "training.optimizer.name"),
        (
            "training: {optimizer: {name: adam, schedule: {name: step, every: 0}}}",
            "training.optimizer.schedule.step.every",
        ),
        ("training: {optimizer: {schedule: {name: cosine, every: 3}}}", "training.optimizer.schedule.cosine.every"),
        ("models: [{name: vae, training: {epochs: 0}}]", "models[0].training.epochs"),
        (
            "models: [{name: vae, training: {optimizer: {schedule: linear}}}]",
            "models[0].training.optimizer.schedule",
        ),
        ("models: []", "models"),
        ("backbones: dense", "backbones"),
        ("backbones: [3]", "backbones[0]"),
        ("backbones: []", "backbones"),
        ("tasks: [{name: sampling, params: {sampler: prior}}]", "tasks[0].params.sampler"),
        ("tasks: [{name: sampling, params: {sampler: gnm}}]", "tasks.sampling.params"),
    ],
)
def test_a_wrong_setting_has_one_line(aebench, tmp_path, text, expected):
    (tmp_path / "bench.yaml").write_text(text)
    code, (line,) = aebench("run", "--config", tmp_path / "bench.yaml")
    assert code == 2
    assert f"{expected}: " in line


@pytest.mark.parametrize(
    ("x", "arguments", "expected"),
    [
        (np.zeros((30, 7, 9), np.uint8), ("--backbones", "conv"), "conv needs images of at least 8x8 pixels"),
        (np.full((30, 8, 8), 1.5), (), "must lie in [0, 1]"),
        (np.linspace(-1, 1, 30 * 64).reshape(30, 8, 8), (), "must lie in [0, 1]"),
    ],
)
def test_images_that_do_not_fit(aebench, tmp_path, x, arguments, expected):
    np.savez(tmp_path / "mine.npz", x=x)
    code, (line,) = aebench("run", "--dataset", tmp_path / "mine.npz", *arguments)
    assert code == 2
    assert expected in line


def test_a_data_directory_that_cannot_be_written(aebench, tmp_path):
    (tmp_path / "file").write_text("")
    code, (line,) = aebench("run", "--dataset", "kmnist", "--data-dir", tmp_path / "file")
    assert code == 2
    assert "that directory cannot be written" in line


def test_a_truncated_mnist_file(aebench, tmp_path):
    raw = tmp_path / "data" / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for part in ("train", "t10k"):
        (raw / f"{part}-images-idx3-ubyte").write_bytes(struct.pack(">IIII", 0x803, 60, 28, 28) + bytes(100))
        (raw / f"{part}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, 60) + bytes(60))
    code, (line,) = aebench("run", "--dataset", "mnist", "--data-dir", tmp_path / "data")
    assert code == 2
    assert "train-images-idx3-ubyte is corrupt or truncated" in line


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
