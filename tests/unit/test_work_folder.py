"""The folder that runs leave to each other: who claims what, and what becomes of a dead run's files."""

import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from aebench.errors import AebenchError
from aebench.execution.work_folder import WorkFolder


@pytest.fixture
def work(tmp_path):
    return WorkFolder(tmp_path / "work")


def test_the_folder_is_for_its_user_alone(work):
    with work.new_run() as run:
        for folder in (work.root, run.path):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_folder_that_cannot_be_made_is_one_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(AebenchError, match="choose another with --work-dir or AEBENCH_WORK_DIR"):
        WorkFolder(tmp_path / "file" / "work")


def test_a_run_leaves_nothing_unless_it_is_kept(work):
    with work.new_run() as gone:
        gone.artifacts.put(b"content")
    with work.new_run() as kept:
        kept.keep = True
    assert not gone.path.exists()
    (found,) = work.abandoned_runs()
    assert found.path == kept.path
    found.remove()
    assert work.abandoned_runs() == []


def test_a_run_that_lives_is_not_abandoned(work):
    with work.new_run():
        assert work.abandoned_runs() == []


def test_what_two_runs_want_only_one_of_them_gets(work, rotation):
    first, second, *others = rotation.cells
    with work.new_run() as one:
        assert work.claim(one, "store", [first]) == [first]
        with work.new_run() as two:
            wanted = [first, second, *others]
            free = work.claim(two, "store", wanted)
            assert first not in free
            assert all(cell.training.hash != first.training.hash for cell in free)
            assert len(free) >= 1
            assert work.claim(one, "store", wanted) == [cell for cell in wanted if cell not in free]
            assert work.claim(two, "another store", wanted) == wanted
        assert work.claim(one, "store", wanted) == wanted  # the other run has ended


KILLED = """
import os, signal, sys, tempfile
from pathlib import Path
from aebench.execution.work_folder import WorkFolder
with WorkFolder(Path(sys.argv[1])).new_run() as run:
    run.artifacts.put(b"content")
    Path(tempfile.gettempdir(), "left").touch()
    print(tempfile.gettempdir(), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_temporary_files_of_a_killed_run_are_removed_by_the_next_one(work, tmp_path):
    environment = {**os.environ, "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-c", KILLED, str(work.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    folder = Path(done.stdout.strip())
    assert (folder / "left").exists(), done.stderr
    assert folder.parent == tmp_path
    (found,) = work.abandoned_runs()
    found.remove_temporary_files()
    found.remove()
    assert [path.name for path in tmp_path.iterdir()] == ["work"]


def test_temporary_files_of_a_run_are_in_its_own_folder(work):
    before = tempfile.gettempdir()
    with work.new_run():
        inside = tempfile.gettempdir()
        assert inside != before
        assert os.environ["TMPDIR"] == inside
    assert tempfile.gettempdir() == before
    assert not Path(inside).exists()
