"""A matrix as it is recorded in a real store: runs, metrics, files, what is reused, and how runs end."""

import json
import sqlite3
from collections import Counter
from pathlib import Path

import pytest
import torch
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode

from aebench.execution.artifacts import FolderStore
from aebench.planning.cells import CellResult, Status
from aebench.planning.specs import ExportSpec
from aebench.tracking import MatrixRun, Store
from aebench.tracking.delivery import Delivery
from aebench.tracking.journal import Journal
from aebench.tracking.runs import Runs, apply_update
from aebench.tracking.schema import read_cells
from aebench.training.export import export_program
from aebench.training.records import EpochLosses, TrainingResult

RESULT = TrainingResult((EpochLosses(1, "end to end", 9.0, 8.0, 1.0, 9.5),), 1.5, 100, 10, 5)


@pytest.fixture
def client(mlflow_store):
    return MlflowClient(mlflow_store)


@pytest.fixture
def open_store(mlflow_store, new_experiment):
    """open_store(): the store of one new experiment, as another process would open it."""
    name, _ = new_experiment()
    return lambda: Store(mlflow_store, name)


@pytest.fixture
def status_of(client):
    """status_of(parent_id): how the matrix's runs ended, by model and seed; its own under None."""

    def status_of(parent_id):
        parent = client.get_run(parent_id)
        filter_string = f"tags.`mlflow.parentRunId` = '{parent_id}'"
        children = client.search_runs([parent.info.experiment_id], filter_string)
        rows = {(run.data.tags["model"], int(run.data.tags["seed"])): run.info.status for run in children}
        return {None: parent.info.status} | rows

    return status_of


@pytest.fixture
def journal(tmp_path):
    """The journal of one run."""
    folder = tmp_path / "journal"
    (folder / "artifacts").mkdir(parents=True)
    return Journal(folder / "journal", FolderStore(folder / "artifacts"))


def _ok(spec, value=0.5):
    return CellResult.of(spec, Status.OK, metrics=dict.fromkeys(("auroc", "recall"), value), seconds=2.0)


def _record(target, plan, status=Status.OK):
    target.record_known({})
    for spec in plan.cells:
        if spec.skip is not None:
            continue
        if status is Status.OK:
            target.record_cell(spec, _ok(spec), {})
        else:
            target.record_cell(spec, CellResult.of(spec, status, reason="no luck"), {})


def _record_and_raise(target, spec, result, error):
    with target:
        target.record_cell(spec, result, {})
        raise error


def _row(spec):
    return spec.training.label, spec.training.seed


def _rows(plan):
    return {_row(cell) for cell in plan.cells}


def _run_of(client, parent_id, spec):
    parent = client.get_run(parent_id)
    row = f"tags.model = '{spec.training.label}' and tags.seed = '{spec.training.seed}'"
    (run,) = client.search_runs([parent.info.experiment_id], f"tags.`mlflow.parentRunId` = '{parent_id}' and {row}")
    return run


def _folder(run):
    return Path(run.info.artifact_uri.removeprefix("file://"))


def test_a_recorded_matrix_is_read_back(open_store, status_of, rotation, journal):
    with open_store().open_matrix(rotation, journal, new=False) as target:
        _record(target, rotation)
    assert set(status_of(target.parent_id).values()) == {"FINISHED"}
    assert set(status_of(target.parent_id)) == {None, *_rows(rotation)}
    results = open_store().results()
    assert results.matrix == rotation.matrix
    assert {(cell.model, cell.seed, cell.key) for cell in results.cells} == {
        (cell.training.label, cell.training.seed, cell.key) for cell in rotation.cells
    }
    for cell, spec in zip(results.cells, rotation.cells, strict=True):
        if spec.skip is None:
            assert (cell.status, cell.metrics) == (Status.OK, {"auroc": 0.5, "recall": 0.5})
        else:
            assert (cell.status, cell.reason) == (Status.SKIPPED, spec.skip)
    assert open_store().holds(rotation)


def test_the_mean_over_held_out_classes_is_recorded_with_the_last_of_them(open_store, client, rotation, journal):
    row = ("vae", 0)
    first, second = (cell for cell in rotation.cells if cell.training.in_rotation and _row(cell) == row)
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_cell(first, _ok(first, 0.25), {})
        assert target.deliver()
        assert "anomaly_detection.auroc" not in _run_of(client, target.parent_id, first).data.metrics
        target.record_cell(second, _ok(second, 0.75), {})
    assert _run_of(client, target.parent_id, first).data.metrics["anomaly_detection.auroc"] == 0.5


def test_files_are_recorded_under_their_own_names(open_store, client, rotation, journal):
    spec = next(cell for cell in rotation.cells if cell.training.in_rotation)
    stored = journal.artifacts.put(b"pixels")
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_cell(spec, _ok(spec), {"curve.png": stored})
    folder = (
        _folder(_run_of(client, target.parent_id, spec)) / "anomaly_detection" / f"without_{spec.training.held_out}"
    )
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == {"curve.png": b"pixels"}
    assert not (folder / "curve.png").is_symlink()


def test_a_failed_cell_keeps_its_traceback_and_fails_its_run_and_the_matrix(
    open_store, client, status_of, rotation, journal
):
    failing, *others = (cell for cell in rotation.cells if cell.skip is None)
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_known({})
        result = CellResult.of(failing, Status.FAILED, reason="no luck", traceback="Traceback: no luck")
        target.record_cell(failing, result, {})
        for spec in others:
            target.record_cell(spec, _ok(spec), {})
    expected = dict.fromkeys([None, *_rows(rotation)], "FINISHED") | {None: "FAILED", _row(failing): "FAILED"}
    assert status_of(target.parent_id) == expected
    folder = _folder(_run_of(client, target.parent_id, failing)) / failing.key
    assert (folder / "error.txt").read_text() == "Traceback: no luck"
    assert not open_store().holds(rotation)
    (failed,) = (cell for cell in open_store().results().cells if cell.status is Status.FAILED)
    assert (failed.task, failed.reason) == (failing.task, "no luck")


@pytest.mark.parametrize(
    ("error", "status"), [(KeyboardInterrupt, "KILLED"), (SystemExit, "KILLED"), (ValueError, "FAILED")]
)
def test_an_interrupted_matrix_leaves_no_run_open(open_store, status_of, rotation, error, status, journal):
    target = open_store().open_matrix(rotation, journal, new=False)
    first, *_ = (cell for cell in rotation.cells if cell.skip is None)
    with pytest.raises(error):
        _record_and_raise(target, first, _ok(first), error)
    assert set(status_of(target.parent_id).values()) == {status}


def test_an_interruption_while_runs_are_opened_leaves_none_open(
    mlflow_store, client, new_experiment, status_of, rotation, journal
):
    class Interrupted(Runs):
        def log_dataset(self, run_id, info):
            raise KeyboardInterrupt

    name, experiment_id = new_experiment()
    store = Store(mlflow_store, name)
    target = MatrixRun(Interrupted(client, experiment_id), rotation, store.delivery(journal))
    with pytest.raises(KeyboardInterrupt):
        target.__enter__()
    assert set(status_of(target.parent_id).values()) == {"KILLED"}


def test_a_call_that_is_interrupted_in_the_middle_does_not_keep_the_database(
    open_store, mlflow_store, status_of, rotation, journal
):
    """The exception of a signal leaves the call, but its traceback still refers to the open transaction."""

    def write():
        connection = sqlite3.connect(mlflow_store.removeprefix("sqlite:///"))
        connection.execute("begin immediate")
        raise SystemExit

    target = open_store().open_matrix(rotation, journal, new=False)
    with pytest.raises(SystemExit), target:
        write()
    assert set(status_of(target.parent_id).values()) == {"KILLED"}


def test_an_interrupted_matrix_goes_on_in_its_runs(open_store, client, status_of, rotation, journal):
    todo = [cell for cell in rotation.cells if cell.skip is None]
    first = next(cell for cell in todo if cell.training.in_rotation)
    target = open_store().open_matrix(rotation, journal, new=False)
    with pytest.raises(KeyboardInterrupt):
        _record_and_raise(target, first, _ok(first, 0.25), KeyboardInterrupt)
    store = open_store()
    finished = store.finished(rotation.cells)
    assert set(finished) == {first.hash}
    with store.open_matrix(rotation, journal, new=False) as continued:
        continued.record_known(finished)
        for spec in rotation.cells:
            if spec.skip is None and spec.hash not in finished:
                continued.record_cell(spec, _ok(spec, 0.75), {})
    assert continued.parent_id == target.parent_id
    assert set(status_of(target.parent_id).values()) == {"FINISHED"}
    run = _run_of(client, target.parent_id, first)
    assert run.data.metrics["anomaly_detection.auroc"] == 0.5
    assert "cell.anomaly_detection.without_1.from_run" not in run.data.tags


def test_cells_of_another_matrix_are_reused_and_name_the_run_with_their_pictures(open_store, client, lay_out, journal):
    one = lay_out(models=["vae"], tasks=["sampling"])
    two = lay_out(models=[{"name": "vae", "label": "renamed"}, "shallow"], tasks=["sampling"])
    three = lay_out(models=[{"name": "vae", "label": "renamed"}], tasks=["sampling"])
    (spec,) = one.cells
    with open_store().open_matrix(one, journal, new=False) as first:
        first.record_cell(spec, CellResult.of(spec, Status.OK, metrics={"recall": 0.5, "x": float("inf")}), {})
    origin = _run_of(client, first.parent_id, spec).info.run_id
    for plan in (two, three):
        store = open_store()
        finished = store.finished(plan.cells)
        assert finished[spec.hash].origin == origin
        with store.open_matrix(plan, journal, new=False) as target:
            target.record_reused(plan.cells[0], finished[spec.hash])
        run = _run_of(client, target.parent_id, plan.cells[0])
        assert run.data.tags["cell.sampling.from_run"] == origin
        reused = open_store().results(target.parent_id).cells[0]
        assert (reused.model, reused.status) == ("renamed", Status.OK)
        assert reused.metrics == {"recall": 0.5, "x": float("inf")}


def test_a_cell_of_one_held_out_class_is_reused_in_a_rotation(open_store, client, lay_out, rotation, journal):
    one = lay_out(models=["vae"], tasks=["anomaly_detection"])
    (alone,) = one.cells
    with open_store().open_matrix(one, journal, new=False) as target:
        target.record_cell(alone, _ok(alone, 0.25), {})
    store = open_store()
    finished = store.finished(rotation.cells)
    reused, other = (cell for cell in rotation.cells if cell.training.in_rotation and _row(cell) == ("vae", 0))
    assert set(finished) == {reused.hash}
    with store.open_matrix(rotation, journal, new=False) as target:
        target.record_reused(reused, finished[reused.hash])
        target.record_cell(other, _ok(other, 0.75), {})
    metrics = _run_of(client, target.parent_id, reused).data.metrics
    assert (metrics["anomaly_detection.without_1.auroc"], metrics["anomaly_detection.auroc"]) == (0.25, 0.5)


def test_only_cells_that_are_ok_are_finished(open_store, rotation, journal):
    with open_store().open_matrix(rotation, journal, new=False) as target:
        _record(target, rotation, Status.FAILED)
    assert open_store().finished(rotation.cells) == {}


def test_a_fresh_matrix_has_runs_of_its_own(open_store, rotation, journal):
    parents = []
    for new in (False, False, True):
        with open_store().open_matrix(rotation, journal, new=new) as target:
            parents.append(target.parent_id)
    assert parents[0] == parents[1] != parents[2]


def test_another_matrix_and_one_that_is_still_running_are_not_continued(open_store, lay_out, rotation, journal):
    with open_store().open_matrix(lay_out(models=["vae"], tasks=["sampling"]), journal, new=False) as other:
        pass
    with open_store().open_matrix(rotation, journal, new=False) as running:
        assert running.parent_id != other.parent_id
        with open_store().open_matrix(rotation, journal, new=False) as beside:
            assert beside.parent_id != running.parent_id


def test_a_training_is_recorded_with_its_weights(open_store, client, rotation, journal):
    training = rotation.trainings[0]
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_training(training, RESULT, "cpu", journal.artifacts.put(b"weights"))
        target.record_failed_export(ExportSpec(training, rotation.dataset.input_shape), "cannot be exported")
    run = _run_of(client, target.parent_id, rotation.cells[0])
    key = training.training_key
    for name in ("seconds", "images_seen", "optimizer_steps", "parameters"):
        assert run.data.metrics[f"train.{key}.{name}"] == getattr(RESULT, name)
    assert run.data.tags[f"training.{key}.hash"] == training.hash
    assert run.data.tags[f"training.{key}.model"] == "cannot be exported"
    assert (_folder(run) / "weights" / f"{key}.safetensors").read_bytes() == b"weights"


def test_what_exceeds_a_batch_is_recorded_whole(mlflow_store, new_experiment, client, rotation, journal):
    class AsStrictAsAServer(MlflowClient):
        def log_batch(self, run_id, metrics=(), params=(), tags=(), **options):
            assert len(metrics) <= 1000
            assert len(params) <= 100
            assert len(tags) <= 100
            return super().log_batch(run_id, metrics, params, tags, **options)

    name, experiment_id = new_experiment()
    training, spec = rotation.trainings[0], next(cell for cell in rotation.cells if cell.skip is None)
    epochs = tuple(EpochLosses(epoch, "end to end", 1.0, 1.0, 1.0, 1.0) for epoch in range(1, 302))
    absent = {f"metric_{number}": "too few" for number in range(150)}
    strict = AsStrictAsAServer(mlflow_store)
    delivery = Delivery(journal, lambda update: apply_update(strict, update, journal.artifacts), mlflow_store, print)
    with MatrixRun(Runs(strict, experiment_id), rotation, delivery) as target:
        weights = journal.artifacts.put(b"weights")
        target.record_training(training, TrainingResult(epochs, 1.5, 100, 10, 5), "cpu", weights)
        target.record_cell(spec, CellResult.of(spec, Status.OK, absent=absent), {})
    run = _run_of(client, target.parent_id, spec)
    for name in ("total", "reconstruction", "penalty", "validation"):
        curve = client.get_metric_history(run.info.run_id, f"train.{training.training_key}.{name}")
        assert sorted(metric.step for metric in curve) == list(range(1, 302))
    assert read_cells(run)[spec.key].result.absent == absent


def test_weights_are_copied_one_by_one_for_the_trainings_that_are_wanted(open_store, rotation, journal):
    first, second, third, *_ = rotation.trainings
    with open_store().open_matrix(rotation, journal, new=False) as target:
        for training in (first, second):
            target.record_training(training, RESULT, "cpu", journal.artifacts.put(training.hash.encode()))
    seen = Counter()

    def put(content):
        seen[content] += 1
        return content.decode().upper()

    assert open_store().copy_weights([second.hash, third.hash], put) == {second.hash: second.hash.upper()}
    assert seen == {second.hash.encode(): 1}


@pytest.fixture
def exported(rotation, build, journal):
    """A trained model, its ExportSpec and its program."""
    model, shape = build("shallow").eval(), rotation.dataset.input_shape
    return model, ExportSpec(rotation.trainings[0], shape), journal.artifacts.put(export_program(model, shape))


def _logged(client, run):
    found = client.search_logged_models([run.info.experiment_id])
    return [model for model in found if model.source_run_id == run.info.run_id]


@pytest.mark.filterwarnings("ignore:.*type hint:UserWarning")  # mlflow, at its first import for pyfunc
def test_an_exported_model_loads_without_its_plugin(open_store, client, rotation, exported, journal):
    import mlflow

    model, spec, program = exported
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_training(spec.training, RESULT, "cpu", journal.artifacts.put(b"weights"))
        target.record_model(spec, program)
    run = _run_of(client, target.parent_id, rotation.cells[0])
    assert run.data.tags[f"training.{spec.training.training_key}.model"] == "logged"
    (logged,) = _logged(client, run)
    assert logged.name == spec.training.training_key
    assert [output.model_id for output in run.outputs.model_outputs] == [logged.model_id]
    x = torch.rand(3, *spec.input_shape)
    with torch.no_grad():
        expected = model(x)
        torch.testing.assert_close(mlflow.pytorch.load_model(logged.model_uri)(x), expected)
    served = mlflow.pyfunc.load_model(logged.model_uri).predict(x.numpy())
    torch.testing.assert_close(torch.from_numpy(served), expected)


def test_a_model_that_is_delivered_twice_is_logged_once(open_store, client, rotation, exported, journal):
    _, spec, program = exported
    with open_store().open_matrix(rotation, journal, new=False) as target:
        run = _run_of(client, target.parent_id, rotation.cells[0])
        client.create_logged_model(run.info.experiment_id, spec.training.training_key, run.info.run_id)  # half made
        found = []
        for content in (program, program, journal.artifacts.put(b"of another training")):
            target.record_model(spec, content)
            target.deliver_all()
            found.append(_logged(client, run))
    first, again, last = (models[0] for models in found)
    assert {len(models) for models in found} == {1}
    assert {model.status for model in (first, again, last)} == {"READY"}
    assert first.model_id == again.model_id != last.model_id
    outputs = client.get_run(run.info.run_id).outputs.model_outputs
    counts = Counter(output.model_id for output in outputs)
    assert counts[first.model_id] == counts[last.model_id] == 1


def test_a_program_that_is_damaged_is_not_logged(open_store, client, rotation, exported, journal):
    _, spec, program = exported
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_training(spec.training, RESULT, "cpu", journal.artifacts.put(b"weights"))
        journal.artifacts.path(program).write_bytes(b"damaged")
        target.record_model(spec, program)
    run = _run_of(client, target.parent_id, rotation.cells[0])
    assert not _logged(client, run)
    assert "is damaged" in run.data.tags[f"training.{spec.training.training_key}.model"]


def test_a_store_that_takes_no_models_costs_the_models_only(
    mlflow_store, new_experiment, client, rotation, exported, journal
):
    class WithoutModels(MlflowClient):
        def create_logged_model(self, *arguments, **options):
            raise MlflowException("no such endpoint", ErrorCode.Value("ENDPOINT_NOT_FOUND"))

    _, spec, program = exported
    old = WithoutModels(mlflow_store)
    delivery = Delivery(journal, lambda update: apply_update(old, update, journal.artifacts), mlflow_store, print)
    with MatrixRun(Runs(old, new_experiment()[1]), rotation, delivery) as target:
        target.record_model(spec, program)
        target.record_training(spec.training, RESULT, "cpu", journal.artifacts.put(b"weights"))
        target.record_model(spec, program)
    tags = _run_of(client, target.parent_id, rotation.cells[0]).data.tags
    assert tags[f"training.{spec.training.training_key}.model"] == "no such endpoint"
    assert tags[f"training.{spec.training.training_key}.hash"] == spec.training.hash


def test_the_accuracy_of_the_reference_classifier_is_a_metric_of_the_matrix(open_store, client, rotation, journal):
    with open_store().open_matrix(rotation, journal, new=False) as target:
        target.record_reference_classifier(0.97)
    assert client.get_run(target.parent_id).data.metrics == {"reference_classifier.accuracy": 0.97}


def test_a_matrix_is_described_by_its_table_and_diagrams(open_store, client, rotation, journal):
    store = open_store()
    with store.open_matrix(rotation, journal, new=False) as target:
        pass
    store.describe(target.parent_id, "| model |" + "x" * 20_000, {"sampling.png": b"pixels"})
    run = client.get_run(target.parent_id)
    assert run.data.tags["mlflow.note.content"].startswith("| model |xxx")
    assert (_folder(run) / "rankings" / "sampling.png").read_bytes() == b"pixels"
    assert json.loads((_folder(run) / "matrix.json").read_text())["matrix"] == rotation.matrix


def test_runs_whose_process_died_are_closed(open_store, client, status_of, rotation, journal):
    store = open_store()
    target = store.open_matrix(rotation, journal, new=False).__enter__()
    assert store.close_dead_runs() == 0
    client.set_tag(target.parent_id, "aebench.process", _without_start_time(client, target.parent_id))
    assert store.close_dead_runs() == 1
    assert Counter(status_of(target.parent_id).values()) == {"KILLED": 1, "RUNNING": len(_rows(rotation))}
    target.__exit__(None, None, None)


def _without_start_time(client, run_id):
    """The process that opened a run, had it started at another time: a process that has ended since."""
    return client.get_run(run_id).data.tags["aebench.process"].rpartition(":")[0] + ":1.00"
