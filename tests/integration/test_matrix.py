"""The whole matrix, end to end, and the store after it."""

import json
import sqlite3
from collections import Counter
from itertools import product
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from PIL import Image
from safetensors.torch import load_file

from aebench.contracts import Bernoulli, ModelSpec, Params
from aebench.networks import DENSE

GOLDEN = json.loads(Path(__file__).parents[1].joinpath("golden", "digits_3_epochs.json").read_text())


def _metrics(results):
    return {(cell["model"], cell["task"]): cell["metrics"] for cell in results["cells"]}


def test_every_model_is_evaluated_on_every_task(matrix, registry):
    results = matrix.results()
    assert results["dataset"] == "digits"
    found = {(cell["model"], cell["task"]): cell for cell in results["cells"]}
    assert len(found) == len(results["cells"])
    assert set(found) == set(product(registry.autoencoders, registry.tasks))
    for (model, task), cell in found.items():
        assert (cell["status"], cell["reason"]) == ("ok", None)
        if task == "sampling":
            assert cell["metrics"]["ex_post_frechet_distance"] > 0
            cannot_sample = not registry.autoencoder(model).record.capabilities
            assert ("frechet_distance" in cell.get("absent", {})) == cannot_sample


def test_it_prints_a_table_and_nothing_on_stderr(matrix):
    log = (matrix.path / "log").read_text()
    count = Counter(cell["status"] for cell in matrix.results()["cells"])
    for text in (
        f"Digits (8x8): {count.total()} cells",
        "nll ↓ [nats/image]",
        "auroc ↑",
        f"{count['ok']} ok.",
    ):
        assert text in log
    assert (matrix.path / "stderr").read_text() == ""
    table = matrix.run("results").stdout
    assert all(line in log for line in table.splitlines())


def test_metrics_lie_in_plausible_ranges(matrix):
    metrics = _metrics(matrix.results())
    nll = {model: values["nll"] for (model, task), values in metrics.items() if task == "reconstruction"}
    assert all(10 < value < 45 for value in nll.values())
    for (_, task), values in metrics.items():
        if task == "anomaly_detection":
            assert all(0 <= value <= 1 for value in values.values())
    assert metrics["vae", "reconstruction"]["nll_stochastic"] > metrics["vae", "reconstruction"]["nll"]


def test_reconstruction_metrics_equal_those_of_earlier_versions(matrix):
    """A faster implementation gives the same results, up to rounding, which differs between processors."""
    metrics = _metrics(matrix.results())
    assert GOLDEN
    for model, expected in GOLDEN.items():
        assert metrics[model, "reconstruction"] == pytest.approx(expected, rel=0.01)


def test_a_second_run_reuses_every_cell(matrix):
    before = matrix.results()
    done = matrix.run("run", "--epochs", 3)
    ok = [cell["status"] for cell in before["cells"]].count("ok")
    assert f"nothing to train: all {ok} cells are in the store" in done.stdout
    assert done.stderr == ""
    assert matrix.results() == before
    assert len(_parents(matrix)) == 1


def test_one_model_alone_gives_the_numbers_of_the_whole_matrix(matrix, home, registry):
    home.call("run", "--epochs", 3, "--models", "vae", "--jobs", 1)
    alone, whole = _metrics(home.results()), _metrics(matrix.results())
    assert len(alone) == len(registry.tasks)
    assert alone == {key: whole[key] for key in alone}


def test_two_fresh_runs_are_identical(home):
    arguments = ("run", "--epochs", 2, "--models", "vae,stacked,vq_vae", "--fresh")
    tasks = ("--tasks", "reconstruction,sampling,anomaly_detection,classification,interpolation")
    home.call(*arguments, *tasks)
    first = home.results()
    home.call(*arguments, *tasks, "--jobs", 1)
    assert home.results() == first
    assert len(_parents(home)) == 2


def _client(home):
    return MlflowClient(home.uri)


def _runs(home, filter_string=""):
    client = _client(home)
    (experiment,) = [e for e in client.search_experiments() if e.name != "Default"]
    return client.search_runs([experiment.experiment_id], filter_string)


def _parents(home):
    return _runs(home, "tags.`aebench.kind` = 'matrix'")


def _child(home, model):
    (run,) = _runs(home, f"tags.model = '{model}'")
    return run


def _folder(home, run):
    return home.path / run.info.artifact_uri


def test_a_parent_run_and_a_child_run_for_every_model_are_finished(matrix, registry):
    (parent,) = _parents(matrix)
    children = _runs(matrix, f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'")
    assert len(children) == len(registry.autoencoders)
    assert {run.info.status for run in (parent, *children)} == {"FINISHED"}
    assert _client(matrix).get_experiment(parent.info.experiment_id).name == "aebench-digits"
    assert parent.data.tags["mlflow.note.content"].startswith("| model | Anomaly detection<br>auroc ↑ |")


def test_a_child_run_has_metrics_curves_parameters_tags_and_data(matrix, digits):
    run = _child(matrix, "beta_vae_strict")
    data = run.data
    assert data.metrics["reconstruction.nll"] > 0
    steps = 3 * (len(digits.train) // 64)
    assert data.metrics["train.general.seconds"] > 0
    assert data.metrics["train.general.optimizer_steps"] == steps
    assert data.metrics["train.general.images_seen"] == 64 * steps
    assert data.metrics["train.general.parameters"] > 1000
    curve = _client(matrix).get_metric_history(run.info.run_id, "train.anomaly.validation")
    assert [point.step for point in curve] == [1, 2, 3]
    assert data.params["model.beta"] == "2.0"
    assert data.params["train.epochs"] == "3"
    assert data.params["train.anomaly.held_out"] == "1"
    assert data.params["task.classification.labelled_share"] == "0.01"
    assert data.tags["cell.sampling.status"] == "ok"
    assert len(data.tags["cell.sampling.hash"]) == 16
    assert (data.tags["model"], data.tags["dataset"], data.tags["seed"]) == ("beta_vae_strict", "digits", "0")
    (dataset,) = run.inputs.dataset_inputs
    assert dataset.dataset.name == "digits"


def test_pictures_can_be_opened(matrix):
    folder = _folder(matrix, _child(matrix, "vae"))
    sizes = {}
    for file in folder.glob("*/*.png"):
        with Image.open(file) as image:
            sizes[f"{file.parent.name}/{file.name}"] = image.size
            assert np.asarray(image.convert("L")).std() > 5  # not a uniform image
    assert set(sizes) == {
        "anomaly_detection/roc.png",
        "classification/confusion_matrix.png",
        "interpolation/interpolation.png",
        "latent_structure/umap.png",
        "reconstruction/reconstructions.png",
        "sampling/ex_post_samples.png",
        "sampling/samples.png",
    }
    with Image.open(folder / "interpolation/interpolation_animated.gif") as animation:
        assert animation.n_frames > 64  # equal neighbours are merged


def test_a_logged_model_reconstructs_an_image_and_agrees_with_its_weights(
    matrix, registry, digits, monkeypatch, request
):
    monkeypatch.chdir(matrix.path)
    before = mlflow.get_tracking_uri()
    request.addfinalizer(lambda: mlflow.set_tracking_uri(before))
    mlflow.set_tracking_uri(matrix.uri)
    run = _child(matrix, "vae")
    logged = {
        model.name: model
        for model in _client(matrix).search_logged_models([run.info.experiment_id])
        if model.source_run_id == run.info.run_id
    }
    assert set(logged) == {"general", "anomaly"}
    loaded = mlflow.pytorch.load_model(logged["general"].model_uri)
    x = digits.test.x(slice(5))
    model = registry.autoencoder("vae").record.build(ModelSpec((1, 8, 8), 20, Params(), DENSE, Bernoulli()))
    model.load_state_dict(load_file(_folder(matrix, run) / "weights/general.safetensors"))
    torch.testing.assert_close(loaded(x), model.eval().reconstruct(x))
    assert (loaded(x) - x).square().mean() < 0.2
    info = mlflow.models.get_model_info(logged["general"].model_uri)
    assert info.signature.inputs.inputs[0].shape == (-1, 1, 8, 8)


def test_cells_of_another_matrix_are_reused(matrix, tmp_path):
    """A part of the matrix is a new matrix without new cells; it runs on a copy of the store."""
    with sqlite3.connect(matrix.path / "mlflow.db") as source, sqlite3.connect(tmp_path / "mlflow.db") as copy:
        source.backup(copy)
    home = type(matrix)(tmp_path)
    done = home.call("run", "--epochs", 3, "--models", "vae,shallow", "--tasks", "reconstruction,sampling")
    assert "0 trainings, cells run: 0, reused: 4" in done.stdout
    assert len(_parents(home)) == 2
    whole, part = _metrics(matrix.results()), _metrics(home.results())
    assert part == {key: whole[key] for key in part}
    assert len(part) == 4


@pytest.mark.parametrize("command", [("plan",), ("plan", "--json")])
def test_plan_prints_what_would_run_and_writes_nothing(bare_home, command):
    done = bare_home.call(*command, "--models", "vae,shallow")
    assert "anomaly" in done.stdout
    assert list(bare_home.path.iterdir()) == []
