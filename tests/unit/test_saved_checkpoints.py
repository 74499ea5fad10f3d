"""Checkpoints that outlive a run: files that are checked, replaced, removed, and saved before anything else happens."""

from __future__ import annotations

import os
import resource
import signal
import stat
import threading
import time

import pytest
import torch

from aebench.execution.artifacts import FolderStore, Ref
from aebench.execution.checkpoints import DAYS, Checkpoints, save_checkpoints
from aebench.execution.events import Checkpointed, CheckpointFailed, Progress, Started, Succeeded
from aebench.execution.jobs import DATA, WEIGHTS, build_jobs
from aebench.execution.run_job import JobRunner


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "made" / "checkpoints"


@pytest.fixture
def checkpoints(folder):
    return Checkpoints(folder)


def load(checkpoints, name):
    """The content, and the reasons why it cannot be used."""
    reasons = []
    return checkpoints.load(name, reasons.append), reasons


def test_the_newest_checkpoint_of_each_training_is_kept(checkpoints):
    for name, content in (("a", b"old"), ("b", b"other"), ("a", b"new")):
        checkpoints.save(name, content)
    assert load(checkpoints, "a") == (b"new", [])
    assert load(checkpoints, "b") == (b"other", [])
    assert load(checkpoints, "c") == (None, [])


def test_only_the_user_may_enter_the_folder(checkpoints, folder):
    before = os.umask(0)
    try:
        checkpoints.save("a", b"content")
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


@pytest.mark.parametrize("damage", [lambda c: c[:-1], lambda c: b"", lambda c: c[:-1] + bytes([c[-1] ^ 1])])
def test_a_damaged_checkpoint_is_removed_with_a_reason(checkpoints, folder, damage):
    checkpoints.save("a", b"content")
    (file,) = folder.glob("a*")
    file.write_bytes(damage(file.read_bytes()))
    content, reasons = load(checkpoints, "a")
    assert content is None
    assert len(reasons) == 1
    assert str(file) in reasons[0]
    assert "damaged" in reasons[0]
    assert not file.exists()


def test_a_checkpoint_that_cannot_be_read_has_a_reason(checkpoints, folder):
    checkpoints.save("a", b"content")
    (file,) = folder.glob("a*")
    file.unlink()
    file.mkdir()
    content, (reason,) = load(checkpoints, "a")
    assert content is None
    assert "Is a directory" in reason


def test_a_discarded_checkpoint_leaves_no_file_of_it(checkpoints, folder):
    checkpoints.save("a", b"content")
    checkpoints.save("b", b"other")
    (file,) = folder.glob("a*")
    file.with_name(f"{file.name}.part").write_bytes(b"unfinished")  # as a process leaves it that was killed
    checkpoints.discard("a")
    checkpoints.discard("a")
    assert [path.name[0] for path in folder.iterdir() if not path.name.startswith(".")] == ["b"]


def test_old_checkpoints_are_removed(checkpoints, folder):
    checkpoints.discard_old()  # there is no folder
    checkpoints.save("old", b"content")
    checkpoints.save("new", b"content")
    (file,) = folder.glob("old*")
    part = file.with_name(f"{file.name}.part")
    part.write_bytes(b"unfinished")
    for path in (file, part):
        os.utime(path, (0, time.time() - (DAYS + 1) * 24 * 3600))
    checkpoints.discard_old()
    assert not file.exists()
    assert not part.exists()
    assert load(checkpoints, "new") == (b"content", [])


def test_writers_at_the_same_time_leave_one_whole_checkpoint(checkpoints, folder):
    contents = [bytes([number]) * 300_000 for number in range(4)]
    errors = []

    def write(content):
        try:
            for _ in range(10):
                Checkpoints(folder).save("a", content)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(content,)) for content in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert load(checkpoints, "a")[0] in contents


@pytest.fixture
def limit_file_size():
    """limit_file_size(bytes): no file may become larger, as on a full disk."""
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_the_former_checkpoint(checkpoints, folder, limit_file_size):
    checkpoints.save("a", b"old")
    files = sorted(folder.iterdir())
    limit_file_size(1000)
    with pytest.raises(OSError, match="File too large"):
        checkpoints.save("a", bytes(100_000))
    assert load(checkpoints, "a") == (b"old", [])
    assert sorted(folder.iterdir()) == files


def test_an_artifact_that_cannot_be_stored_leaves_no_file(tmp_path, limit_file_size):
    limit_file_size(1000)
    with pytest.raises(OSError, match="File too large"):
        FolderStore(tmp_path).put(bytes(100_000))
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def training(lay_out):
    (job, _) = build_jobs(lay_out(models=["vanilla"], tasks=["reconstruction"]).cells, {}, {}, (), timeout=None)
    return job


def test_a_checkpoint_is_saved_before_the_next_event_is_awaited(checkpoints, training, tmp_path):
    artifacts = FolderStore(tmp_path)

    def events():
        for content in (b"first", b"second"):
            ref = artifacts.put(content)
            yield Checkpointed(training.id, ref, 1)
            assert load(checkpoints, training.spec.hash) == (content, [])
            artifacts.discard(ref)  # as the scheduler does
        yield Started(training.id)

    found = list(save_checkpoints(events(), [training], artifacts, checkpoints))
    assert [type(event) for event in found] == [Checkpointed, Checkpointed, Started]


def test_a_checkpoint_that_cannot_be_saved_costs_only_itself(checkpoints, folder, training, tmp_path):
    artifacts = FolderStore(tmp_path)
    events = [Checkpointed(training.id, artifacts.put(b"state"), 1), Started(training.id)]
    folder.parent.write_text("a file where the folder should be")
    found = list(save_checkpoints(events, [training], artifacts, checkpoints))
    assert [type(event) for event in found] == [Checkpointed, CheckpointFailed, Started]
    folder.parent.unlink()
    lost = [Checkpointed(training.id, Ref("0" * 64), 1)]
    assert "cannot be read" in list(save_checkpoints(lost, [training], artifacts, checkpoints))[1].error


def test_a_full_disk_costs_a_training_only_its_checkpoints(registry, digits, lay_out, tmp_path, limit_file_size):
    artifacts = FolderStore(tmp_path)
    cells = lay_out(models=["vanilla"], tasks=["reconstruction"], training={"epochs": 3}).cells
    data = artifacts.put_written(digits.save)
    job, _ = build_jobs(cells, {DATA: data}, {}, (), timeout=None, checkpoint_every=0)

    def run():
        events = []
        JobRunner(registry, artifacts, torch.device("cpu")).run(job, events.append)
        return events

    whole = run()
    assert [type(event) for event in whole] == [Started, *2 * [Progress, Checkpointed], Progress, Succeeded]
    weights = whole[-1].artifacts[WEIGHTS]
    assert artifacts.path(weights).stat().st_size < artifacts.path(whole[2].ref).stat().st_size / 2
    limit_file_size(2 * artifacts.path(weights).stat().st_size)
    limited = run()
    assert [type(event) for event in limited] == [Started, *2 * [Progress, CheckpointFailed], Progress, Succeeded]
    assert "File too large" in limited[2].error
    assert limited[-1].artifacts[WEIGHTS] == weights


def test_a_quick_training_writes_no_checkpoint(registry, digits, lay_out, tmp_path):
    artifacts = FolderStore(tmp_path)
    cells = lay_out(models=["vanilla"], tasks=["reconstruction"], training={"epochs": 3}).cells
    data = artifacts.put_written(digits.save)
    job, _ = build_jobs(cells, {DATA: data}, {}, (), timeout=None, checkpoint_every=100_000)
    events = []
    JobRunner(registry, artifacts, torch.device("cpu")).run(job, events.append)
    assert [type(event) for event in events] == [Started, *3 * [Progress], Succeeded]
