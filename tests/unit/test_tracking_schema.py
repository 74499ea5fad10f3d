"""What the schema writes, it reads: cells and trainings through the tags and metrics of a real store."""

import math
from dataclasses import replace

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric, RunTag

from aebench.planning.cells import CellResult, Status
from aebench.tracking import schema
from aebench.training.records import EpochLosses, TrainingResult

CELLS = {
    "ok": CellResult("vae", "sampling", 3, None, Status.OK, metrics={"recall": 0.25, "x_2": -1e-12}),
    "no finite metric": CellResult(
        "vae", "fidelity", 3, None, Status.OK, metrics={"a": math.inf, "b": -math.inf, "c": math.nan, "d": 1.0}
    ),
    "absent": CellResult("vae", "classes", 3, None, Status.OK, metrics={"a": 1.0}, absent={"b": "few", "c": ""}),
    "skipped": CellResult("vae", "drawing", 3, None, Status.SKIPPED, "vae has no capability 'draw'"),
    "failed": CellResult("vae", "reconstruction", 3, None, Status.FAILED, "ValueError: no = luck.at.all"),
    "rotation": CellResult("vae", "anomaly", 3, 1, Status.OK, metrics={"auroc": 0.5}, absent={"ap": "none"}),
    "rotation, two digits": CellResult("vae", "anomaly", 3, 11, Status.OK, metrics={"auroc": 0.75, "ap": math.nan}),
    "rotation, failed": CellResult("vae", "anomaly", 3, 7, Status.FAILED, "no luck"),
    "a task whose name begins alike": CellResult("vae", "anomaly_detection", 3, None, Status.OK, metrics={"a": 9.0}),
}


@pytest.fixture
def client(mlflow_store):
    return MlflowClient(mlflow_store)


@pytest.fixture
def create_run(client, new_experiment):
    """create_run(**tags): the id of a run of the model 'vae' with seed 3."""
    _, experiment_id = new_experiment()

    def create_run(**tags):
        return client.create_run(experiment_id, tags={"model": "vae", "seed": "3"} | tags).info.run_id

    return create_run


def _log(client, run_id, metrics, tags):
    if not all(isinstance(metric, Metric) for metric in metrics):
        metrics = [Metric(key, value, 0, 0) for key, value in metrics.items()]
    client.log_batch(run_id, metrics=metrics, tags=[RunTag(key, value) for key, value in tags.items()])


def _log_cell(client, run_id, result, hash="0123", from_run=""):
    _log(client, run_id, schema.cell_metrics(result), schema.cell_tags(hash, result, from_run))


def _assert_same(found, expected):
    assert replace(found, metrics={}) == replace(expected, metrics={})
    assert found.metrics == pytest.approx(dict(expected.metrics), rel=0, abs=0, nan_ok=True)


def test_every_kind_of_cell_is_read_as_it_was_written(client, create_run):
    run_id = create_run()
    for name, result in CELLS.items():
        _log_cell(client, run_id, result, hash=f"hash of {name}")
    means = schema.mean_metrics("anomaly", {"auroc": 0.625, "ap": math.nan})
    _log(client, run_id, *means)
    found = schema.read_cells(client.get_run(run_id))
    assert set(found) == {result.key for result in CELLS.values()}
    for name, result in CELLS.items():
        stored = found[result.key]
        assert (stored.hash, stored.run_id, stored.origin) == (f"hash of {name}", run_id, run_id)
        _assert_same(stored.result, result)


def test_times_and_tracebacks_are_not_read_back(client, create_run):
    run_id = create_run()
    _log_cell(client, run_id, replace(CELLS["ok"], seconds=2.5, drawing_seconds=0.5))
    _log_cell(client, run_id, replace(CELLS["failed"], seconds=2.5, traceback="Traceback ..."))
    run = client.get_run(run_id)
    assert (run.data.metrics["time.sampling"], run.data.metrics["time.sampling.pictures"]) == (2.5, 0.5)
    assert schema.cell_seconds(run) == {"sampling": (2.5, 0.5)}
    found = schema.read_cells(run)
    _assert_same(found["sampling"].result, CELLS["ok"])
    _assert_same(found["reconstruction"].result, CELLS["failed"])


def test_a_cell_remembers_the_run_that_computed_it(client, create_run):
    run_id = create_run()
    _log_cell(client, run_id, CELLS["ok"], from_run="another")
    (stored,) = schema.read_cells(client.get_run(run_id)).values()
    assert (stored.run_id, stored.origin) == (run_id, "another")


def test_success_replaces_an_earlier_failure(client, create_run):
    run_id = create_run()
    _log_cell(client, run_id, replace(CELLS["ok"], status=Status.FAILED, reason="no luck", metrics={}), hash="old")
    _log_cell(client, run_id, CELLS["ok"], hash="new")
    (stored,) = schema.read_cells(client.get_run(run_id)).values()
    assert stored.hash == "new"
    _assert_same(stored.result, CELLS["ok"])


def test_a_failed_cell_has_no_metrics():
    assert schema.cell_metrics(replace(CELLS["failed"], metrics={"a": 1.0}, seconds=3.0)) == {}


def test_the_status_is_written_last():
    for result in CELLS.values():
        assert list(schema.cell_tags("0123", result))[-1] == f"cell.{result.key}.status"


def test_long_reasons_are_cut_to_what_a_tag_takes(client, create_run):
    run_id = create_run()
    _log_cell(client, run_id, replace(CELLS["failed"], reason="x" * 20_000))
    (stored,) = schema.read_cells(client.get_run(run_id)).values()
    assert stored.result.reason == "x" * schema.LONGEST_TAG


def test_hashes_of_trainings_are_read_as_they_were_written(client, create_run, rotation):
    run_id = create_run()
    trainings = [training for training in rotation.trainings if (training.label, training.seed) == ("vae", 0)]
    result = TrainingResult((), 1.0, 100, 10, 5, graph_fallback="the step synchronizes")
    for training in trainings:
        _log(client, run_id, {}, schema.training_tags(training, result, "cuda:0", "abc"))
    run = client.get_run(run_id)
    assert schema.training_hashes(run) == {training.training_key: training.hash for training in trainings}
    assert set(schema.training_hashes(run)) >= {"general", "anomaly_without_1", "anomaly_without_7"}
    assert run.data.tags["device"] == "cuda:0"
    assert run.data.tags["training.general.graph_fallback"] == "the step synchronizes"
    assert {schema.weights_digest(run, training.training_key) for training in trainings} == {"abc"}


def test_a_training_says_whether_its_model_is_logged(rotation):
    training = rotation.trainings[0]
    key = f"training.{training.training_key}.model"
    tags = schema.training_tags(training, TrainingResult((), 1.0, 100, 10, 5), "cpu", "abc")
    assert tags[key] == "the run ended before it could be logged"
    assert f"training.{training.training_key}.graph_fallback" not in tags
    assert schema.model_tag(training) == key


def test_the_seconds_of_all_trainings_add_up(client, create_run, rotation):
    run_id = create_run()
    for seconds, training in enumerate(rotation.trainings[:2], start=1):
        result = TrainingResult((), float(seconds), 100, 10, 5)
        tags = schema.training_tags(training, result, "cpu", "")
        _log(client, run_id, schema.training_metrics(training, result, now=1), tags)
    assert len({training.training_key for training in rotation.trainings[:2]}) == 2
    assert schema.training_seconds(client.get_run(run_id)) == 3.0


def test_a_training_has_totals_and_curves_of_what_is_finite(client, create_run, rotation):
    training = rotation.trainings[0]
    epochs = (EpochLosses(1, "a", 9.0, 8.0, 1.0, 9.5), EpochLosses(2, "a", 7.0, math.inf, 0.5, math.nan))
    run_id = create_run()
    _log(client, run_id, schema.training_metrics(training, TrainingResult(epochs, 1.5, 100, 10, 5), now=1), {})
    prefix = f"train.{training.training_key}"
    history = {
        name: [(metric.step, metric.value) for metric in client.get_metric_history(run_id, f"{prefix}.{name}")]
        for name in (*schema.TOTALS, *schema.CURVES)
    }
    assert set(client.get_run(run_id).data.metrics) == {f"{prefix}.{name}" for name in history}
    assert history == {
        "seconds": [(0, 1.5)],
        "epochs_used": [(0, 2)],
        "images_seen": [(0, 100)],
        "optimizer_steps": [(0, 10)],
        "parameters": [(0, 5)],
        "total": [(1, 9.0), (2, 7.0)],
        "reconstruction": [(1, 8.0)],
        "penalty": [(1, 1.0), (2, 0.5)],
        "validation": [(1, 9.5)],
    }
