"""What the events of exports become in the store and on the terminal."""

from types import SimpleNamespace

import pytest

from aebench.execution.artifacts import Ref
from aebench.execution.events import Draining, Failed, Succeeded
from aebench.execution.job_output import OUTPUT
from aebench.execution.jobs import PROGRAM, build_exports, build_jobs
from aebench.runner.recorder import Recorder


@pytest.fixture
def recorded(rotation):
    """Recorded events of the export of one training: what was recorded, what was noted, and `feed`."""
    jobs = build_jobs([cell for cell in rotation.cells if cell.skip is None], {}, {}, (), None)
    exports = build_exports(jobs, rotation.dataset.input_shape)
    models, failures, notes = [], [], []
    target = SimpleNamespace(
        record_model=lambda *given: models.append(given),
        record_failed_export=lambda *given: failures.append(given),
        deliver=lambda: True,
    )
    recorder = Recorder([*jobs, *exports], None, target, SimpleNamespace(note=notes.append), "cpu")

    def feed(event):
        for passed in recorder.journaled([event]):
            recorder.forward(passed)

    return SimpleNamespace(job=exports[0], training=jobs[0], models=models, failures=failures, notes=notes, feed=feed)


def test_a_program_is_recorded(recorded):
    recorded.feed(Succeeded(recorded.job.id, None, {PROGRAM: Ref("1")}))
    assert recorded.models == [(recorded.job.spec, Ref("1"))]
    assert not recorded.failures + recorded.notes


def test_a_failed_export_is_recorded_with_what_it_printed(recorded):
    recorded.feed(Failed(recorded.job.id, "died", artifacts={OUTPUT: Ref("2")}))
    assert recorded.failures == [(recorded.job.spec, "died", Ref("2"))]
    (note,) = recorded.notes
    assert note.endswith("failed: died")
    assert "seed 0" in note


def test_the_export_of_a_failed_training_is_not_mentioned(recorded):
    recorded.feed(Failed(recorded.job.id, "diverged", failed_dependency=recorded.training.id))
    assert not recorded.models + recorded.failures + recorded.notes


def test_exports_are_not_counted_as_trainings_that_stop(recorded):
    recorded.feed(Draining((recorded.job.id, recorded.training.id)))
    assert "1 trainings and the end of 1 evaluations and exports" in recorded.notes[0]
