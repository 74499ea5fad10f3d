"""A job as a worker runs it."""

from aebench.execution.artifacts import FolderStore
from aebench.execution.events import Succeeded
from aebench.execution.isolated_job import IsolatedJob
from aebench.execution.job_output import OUTPUT
from aebench.execution.jobs import Job


class Cycle:
    """Refers to itself, so that only a collection of garbage ends it."""

    def __init__(self):
        self.itself = self

    def __del__(self):
        print("finalised")


class Runner:
    """Runs a job that leaves garbage."""

    def __init__(self, artifacts):
        self.artifacts = artifacts

    def steps(self, job, emit, *_):
        Cycle()
        emit(Succeeded(job.id, None))
        yield from ()


def test_what_a_finalizer_prints_belongs_to_the_job(tmp_path):
    artifacts, events = FolderStore(tmp_path), []
    job = IsolatedJob(Job("a", None), Runner(artifacts), tmp_path / "output", events.append, lambda: False)
    assert job.take_turn()
    (ended,) = events
    assert artifacts.path(ended.artifacts[OUTPUT]).read_text().splitlines().count("finalised") == 1
