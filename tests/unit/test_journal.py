"""The journal of a run, and its delivery to a store that may not answer."""

import resource
import signal

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import ErrorCode
from sqlalchemy.exc import OperationalError

from aebench.errors import AebenchError
from aebench.execution.artifacts import FolderStore
from aebench.tracking.delivery import Delivery
from aebench.tracking.journal import Journal
from aebench.tracking.retries import Retries, Unavailable
from aebench.tracking.runs import apply_update
from aebench.tracking.store_errors import is_refused, is_temporary
from aebench.tracking.updates import ExportedModel, RunEnd, RunUpdate


@pytest.fixture
def open_journal(tmp_path):
    """open_journal(): the journal of one run, as the next process would open it."""
    (tmp_path / "artifacts").mkdir()
    return lambda: Journal(tmp_path / "journal", FolderStore(tmp_path / "artifacts"), "the store")


def _updates(journal):
    model = ExportedModel(
        "general", journal.artifacts.put(b"program"), (1, 8, 8), {"model": "vae"}, "training.general.model"
    )
    return [
        RunUpdate("a", (Metric("error", 0.1 + 0.2, 17, 3),), {"epochs": "2"}, {"tag": "ü\n'"}, time=1),
        RunUpdate("b", files={"weights/w": journal.artifacts.put(b"weights")}, end=RunEnd.FAILED, time=2),
        RunUpdate("c", model=model, time=3),
    ]


def _pending(journal):
    found = []
    while len(journal):
        found.append(journal.first.to_json())
        journal.remove_first()
    return found


def test_updates_survive_the_process_that_wrote_them(open_journal):
    journal = open_journal()
    journal.append(_updates(journal))
    journal.remove_first()
    again = open_journal()
    assert again.store == "the store"
    assert _pending(again) == [update.to_json() for update in _updates(journal)[1:]]
    assert len(open_journal()) == 0


@pytest.mark.parametrize("lost", [2, 20, 100])
def test_a_line_that_was_not_written_whole_is_not_read(open_journal, tmp_path, lost):
    journal = open_journal()
    first, second, third = _updates(journal)
    for update in (first, second, third):
        journal.append([update])
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content[:-lost])
    assert _pending(open_journal()) == [first.to_json(), second.to_json()]


def test_an_altered_line_ends_the_journal(open_journal, tmp_path):
    journal = open_journal()
    journal.append(_updates(journal))
    content = (tmp_path / "journal").read_bytes()
    (tmp_path / "journal").write_bytes(content.replace(b'"FAILED"', b'"KILLED"'))
    assert [update["run_id"] for update in _pending(open_journal())] == ["a"]


def test_a_write_that_fails_leaves_the_journal_as_it_was(open_journal, tmp_path):
    journal = open_journal()
    journal.append(_updates(journal))
    size = (tmp_path / "journal").stat().st_size
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 10, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            journal.append(_updates(journal))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert (tmp_path / "journal").stat().st_size == size
    journal.append(_updates(journal))
    assert len(open_journal()) == 6


def test_an_update_that_is_delivered_twice_is_there_once(mlflow_store, new_experiment, open_journal):
    client = MlflowClient(mlflow_store)
    run_id = client.create_run(new_experiment()[1]).info.run_id
    journal = open_journal()
    update = RunUpdate(
        run_id,
        tuple(Metric("curve", step / 7, 17, step) for step in range(5)),
        tags={"status": "ok"},
        files={"folder/file": journal.artifacts.put(b"pixels")},
        end=RunEnd.FINISHED,
    )
    for _ in range(2):
        apply_update(client, update, journal.artifacts)
    assert [(m.step, m.value) for m in client.get_metric_history(run_id, "curve")] == [(s, s / 7) for s in range(5)]
    run = client.get_run(run_id)
    assert (run.data.tags["status"], run.info.status, run.info.end_time) == ("ok", "FINISHED", update.time)
    assert [file.path for file in client.list_artifacts(run_id, "folder")] == ["folder/file"]


def test_a_journal_whose_disk_is_full_for_a_while_is_waited_for(open_journal, tmp_path):
    journal, notes = open_journal(), []
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

    def note(line):
        notes.append(line)
        resource.setrlimit(resource.RLIMIT_FSIZE, before)  # somebody makes room

    resource.setrlimit(resource.RLIMIT_FSIZE, ((tmp_path / "journal").stat().st_size, before[1]))
    try:
        Delivery(journal, Applied(fails=0), "uri", note).append(_updates(journal))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    failing, working = notes
    assert "trying again" in failing
    assert "can be kept in the work folder again" in working
    assert len(open_journal()) == 3


class Applied:
    """Applies updates; those before `answers` fail with a locked database, and those of run `b` are refused."""

    def __init__(self, fails, code="RESOURCE_DOES_NOT_EXIST"):
        self.fails = fails
        self.code = ErrorCode.Value(code)
        self.run_ids = []

    def __call__(self, update):
        if self.fails:
            self.fails -= 1
            raise OperationalError("insert", None, Exception("database is locked"))
        if update.run_id == "b":
            raise MlflowException("the run was deleted", error_code=self.code)
        self.run_ids.append(update.run_id)


def test_an_update_that_the_store_refuses_does_not_keep_the_others_from_it(open_journal):
    journal, apply, notes = open_journal(), Applied(fails=0), []
    journal.append(_updates(journal))
    Delivery(journal, apply, "uri", notes.append).finish()
    assert apply.run_ids == ["a", "c"]
    assert len(notes) == 1
    assert "run b was deleted" in notes[0]


def test_an_error_that_waiting_does_not_mend_keeps_the_journal(open_journal):
    """Such as a login that has expired."""
    journal, apply = open_journal(), Applied(fails=0, code="PERMISSION_DENIED")
    journal.append(_updates(journal))
    with pytest.raises(AebenchError, match="refuses a result: the run was deleted; 2 results are kept in"):
        Delivery(journal, apply, "uri", print).finish()
    assert apply.run_ids == ["a"]
    assert len(open_journal()) == 2


def test_a_journal_of_another_version_is_one_error(open_journal, tmp_path, monkeypatch):
    monkeypatch.setattr("aebench.tracking.journal.LAYOUT", 99)
    open_journal()
    monkeypatch.undo()
    with pytest.raises(AebenchError, match="written by another version of aebench"):
        open_journal()


def test_a_store_that_does_not_answer_is_tried_again(open_journal):
    journal, apply, notes = open_journal(), Applied(fails=2), []
    journal.append(_updates(journal)[:1])
    delivery = Delivery(journal, apply, "uri", notes.append)
    assert not delivery.attempt()
    delivery.finish()
    assert apply.run_ids == ["a"]
    assert "trying again" in notes[0]
    assert "answers again" in notes[1]


def test_a_store_that_never_answers_keeps_the_journal(open_journal, monkeypatch):
    monkeypatch.setenv("AEBENCH_STORE_SECONDS", "0")
    journal = open_journal()
    journal.append(_updates(journal))
    with pytest.raises(Unavailable, match="3 results are kept"):
        Delivery(journal, Applied(fails=100), "uri", print).finish()
    assert len(open_journal()) == 3


@pytest.mark.parametrize("value", ["-1", "soon", "inf", "nan"])
def test_the_time_limit_must_be_a_number_of_seconds(open_journal, monkeypatch, value):
    monkeypatch.setenv("AEBENCH_STORE_SECONDS", value)
    journal = open_journal()
    journal.append(_updates(journal))
    with pytest.raises(AebenchError, match="AEBENCH_STORE_SECONDS must be a number of seconds"):
        Delivery(journal, Applied(fails=0), "uri", print).finish()


def test_what_a_full_disk_or_a_read_only_database_raises_is_temporary(tmp_path, mlflow_store):
    read_only = MlflowClient(f"sqlite:///file:{mlflow_store.removeprefix('sqlite:///')}?mode=ro&uri=true")
    with pytest.raises(MlflowException) as caught:
        read_only.create_experiment("new")
    assert is_temporary(caught.value)
    assert is_temporary(OSError(28, "No space left on device"))
    client = MlflowClient(mlflow_store)
    with pytest.raises(MlflowException) as caught:
        client.get_run("0" * 32)
    assert not is_temporary(caught.value)
    assert is_refused(caught.value)


def test_what_a_deleted_run_raises_is_a_refusal(mlflow_store, new_experiment, open_journal):
    client = MlflowClient(mlflow_store)
    run_id = client.create_run(new_experiment()[1]).info.run_id
    client.delete_run(run_id)
    with pytest.raises(MlflowException) as caught:
        apply_update(client, RunUpdate(run_id, tags={"a": "b"}), open_journal().artifacts)
    assert is_refused(caught.value)


def test_the_time_limit_counts_from_the_first_failure(monkeypatch):
    monkeypatch.setenv("AEBENCH_STORE_SECONDS", "5")
    now, notes = [0.0], []
    monkeypatch.setattr("aebench.tracking.retries.time.monotonic", lambda: now[0])
    monkeypatch.setattr("aebench.tracking.retries.time.sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    calls = []

    def slow():
        calls.append(now[0])
        now[0] += 100.0
        if len(calls) == 1:
            raise OSError("locked")
        return "stored"

    retries = Retries("the store does not answer", "the store answers again", is_temporary, notes.append)
    assert retries.until_it_succeeds(slow) == "stored"
    assert notes == ["the store does not answer, trying again: locked", "the store answers again after 100 s"]
    with pytest.raises(Unavailable, match="does not answer: away"):
        retries.until_it_succeeds(_away)


def _away():
    raise OSError("away")
