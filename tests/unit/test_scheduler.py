"""The scheduler with an engine whose events each test defines."""

from collections import Counter

import pytest

from aebench.execution.artifacts import Ref
from aebench.execution.events import (
    Cause,
    Checkpointed,
    CheckpointFailed,
    Draining,
    Failed,
    Progress,
    RetryScheduled,
    Started,
    Stopped,
    Succeeded,
)
from aebench.execution.jobs import Job, build_jobs
from aebench.execution.scheduler import Scheduler
from aebench.planning.cells import CellResult, Status
from aebench.planning.specs import EvaluationSpec

INPUTS = {"data": Ref("d" * 64)}


class ScriptedEngine:
    """Runs up to `slots` jobs and ends each with the event `outcome(job, attempt)`; on None the job hangs."""

    def __init__(self, outcome=None, slots=1):
        self._outcome = outcome or (lambda job, attempt: succeed(job))
        self._slots = slots
        self.cause_of_overdue = Cause.PLUGIN
        self.taken, self.cancelled, self.open, self.stopped = [], [], False, False
        self._running, self._begun = {}, set()
        self._attempts = Counter()

    def __enter__(self):
        self.open = True
        return self

    def __exit__(self, *_):
        self.open = False

    def offer(self, jobs):
        assert self.open
        taken = list(jobs[: self._slots - len(self._running)])
        self._running |= {job.id: job for job in taken}
        self.taken += taken
        return taken

    def events(self, timeout):
        events = []
        for job in list(self._running.values()):
            if job.id not in self._begun:
                self._begun.add(job.id)
                self._attempts[job.id] += 1
                events.append(Started(job.id))
            outcome = self._outcome(job, self._attempts[job.id])
            if outcome is not None:
                events.append(outcome)
                del self._running[job.id]
                self._begun.remove(job.id)
        return events

    def stop(self):
        self.stopped = True

    def cancel(self, job_id, reason):
        self.cancelled.append(job_id)
        self._begun.discard(job_id)
        del self._running[job_id]
        return Failed(job_id, reason, cause=self.cause_of_overdue)


def succeed(job):
    result = CellResult.of(job.spec, Status.OK) if isinstance(job.spec, EvaluationSpec) else None
    return Succeeded(job.id, result, {"weights": Ref("w" * 64)})


@pytest.fixture
def jobs(lay_out):
    """Two models, each with one training, a quick and a slow task; no weights are stored."""
    cells = lay_out(models=["vanilla", "vae"], tasks=["reconstruction", "latent_structure"]).cells
    return build_jobs(cells, INPUTS, {}, {"latent_structure"}, timeout=None)


def kind(job):
    return getattr(job.spec, "task", "training"), getattr(job.spec, "label", None) or job.spec.training.label


def by_kind(jobs):
    return {kind(job): job for job in jobs}


def test_a_training_is_shared_by_its_evaluations(jobs):
    assert Counter(name for name, _ in map(kind, jobs)) == {"training": 2, "reconstruction": 2, "latent_structure": 2}
    found = by_kind(jobs)
    assert found["reconstruction", "vae"].needs == {"weights": found["training", "vae"].id}
    assert found["training", "vae"].inputs == INPUTS


def test_stored_weights_need_no_training(lay_out):
    cells = lay_out(models=["vanilla"], tasks=["reconstruction"]).cells
    weights = Ref("1" * 64)
    (job,) = build_jobs(cells, INPUTS, {cells[0].training.hash: weights}, (), timeout=3)
    assert (job.needs, job.inputs, job.timeout) == ({}, INPUTS | {"weights": weights}, 3)


def test_evaluations_run_before_the_next_training_and_slow_ones_first(jobs):
    engine = ScriptedEngine()
    list(Scheduler(jobs, engine).run())
    first, second = (label for name, label in map(kind, engine.taken) if name == "training")
    names = ["training", "latent_structure", "reconstruction"]
    assert [kind(job) for job in engine.taken] == [(name, label) for label in (first, second) for name in names]
    assert not engine.open


def test_artifacts_of_a_job_reach_the_jobs_that_need_them(jobs):
    engine = ScriptedEngine()
    list(Scheduler(jobs, engine).run())
    for job in engine.taken:
        assert job.inputs.keys() == ({"data", "weights"} if job.needs else {"data"})


def test_every_job_ends_with_one_event(jobs):
    events = list(Scheduler(jobs, ScriptedEngine(slots=3)).run())
    assert Counter(event.job_id for event in events if isinstance(event, Succeeded)) == Counter(job.id for job in jobs)


def test_only_the_evaluations_of_a_failed_training_fail_with_it(jobs):
    bad = by_kind(jobs)["training", "vae"]
    engine = ScriptedEngine(
        lambda job, attempt: Failed(job.id, "cannot learn", "trace") if job is bad else succeed(job)
    )
    failed = [event for event in Scheduler(jobs, engine).run() if isinstance(event, Failed)]
    assert {event.job_id for event in failed} == {job.id for job in jobs if kind(job)[1] == "vae"}
    assert [event.failed_dependency for event in failed] == ["", bad.id, bad.id]
    assert {(event.error, event.traceback) for event in failed} == {("cannot learn", "trace")}


def test_an_engine_failure_is_retried_once_and_alone(jobs):
    bad = by_kind(jobs)["training", "vae"].id

    def outcome(job, attempt):
        died = job.id == bad and attempt == 1
        return Failed(job.id, "killed", cause=Cause.ENGINE) if died else succeed(job)

    engine = ScriptedEngine(outcome)
    events = list(Scheduler(jobs, engine).run())
    assert [event for event in events if isinstance(event, RetryScheduled)] == [RetryScheduled(bad, "killed")]
    assert [job.exclusive for job in engine.taken if job.id == bad] == [False, True]
    assert not [event for event in events if isinstance(event, Failed)]


def test_a_second_engine_failure_is_final(jobs):
    bad = by_kind(jobs)["reconstruction", "vae"].id
    engine = ScriptedEngine(
        lambda job, attempt: Failed(job.id, "killed", cause=Cause.ENGINE) if job.id == bad else succeed(job)
    )
    events = list(Scheduler(jobs, engine).run())
    assert [event.job_id for event in events if isinstance(event, Failed)] == [bad]
    assert Counter(job.id for job in engine.taken)[bad] == 2


def test_a_plugin_failure_is_not_retried(jobs):
    bad = by_kind(jobs)["reconstruction", "vae"].id
    engine = ScriptedEngine(lambda job, attempt: Failed(job.id, "wrong") if job.id == bad else succeed(job))
    list(Scheduler(jobs, engine).run())
    assert Counter(job.id for job in engine.taken)[bad] == 1


class Clock:
    """Advances by a second whenever it is read."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 1
        return self.now


def test_a_job_that_hangs_is_cancelled_and_takes_its_evaluations_along(lay_out):
    cells = lay_out(models=["vanilla", "vae"], tasks=["reconstruction"]).cells
    jobs = build_jobs(cells, INPUTS, {}, (), timeout=60)
    hanging = by_kind(jobs)["training", "vae"].id
    engine = ScriptedEngine(lambda job, attempt: None if job.id == hanging else succeed(job), slots=2)
    clock = Clock()
    events = list(Scheduler(jobs, engine, clock=clock).run())
    assert engine.cancelled == [hanging]
    failed = [event for event in events if isinstance(event, Failed)]
    assert {event.error for event in failed} == {"timed out after 60 s"}
    assert len(failed) == 2
    assert len([event for event in events if isinstance(event, Succeeded)]) == 2
    assert 60 < clock.now < 70


def test_a_job_that_hangs_beside_others_is_retried_alone(lay_out):
    cells = lay_out(models=["vanilla"], tasks=["reconstruction"]).cells
    jobs = build_jobs(cells, INPUTS, {}, (), timeout=60)
    hanging = by_kind(jobs)["training", "vanilla"].id
    engine = ScriptedEngine(lambda job, attempt: None if job.id == hanging else succeed(job))
    engine.cause_of_overdue = Cause.ENGINE
    events = list(Scheduler(jobs, engine, clock=Clock()).run())
    assert engine.cancelled == [hanging, hanging]
    assert [job.exclusive for job in engine.taken] == [False, True]
    assert len([event for event in events if isinstance(event, RetryScheduled)]) == 1


def test_progress_gives_a_training_its_time_again():
    """A training whose epochs take forty seconds each is not stopped after a minute."""
    clock, epochs = Clock(), []

    class Training(ScriptedEngine):
        def events(self, timeout):
            begun = super().events(timeout)
            if len(epochs) < 5:
                clock.now += 40
                epochs.append(clock.now)
                begun.append(Progress("a", None))
            return begun

    job = Job("a", None, timeout=60)
    engine = Training(lambda job, attempt: Succeeded(job.id, None) if len(epochs) == 5 else None)
    events = list(Scheduler([job], engine, clock=clock).run())
    assert not engine.cancelled
    assert isinstance(events[-1], Succeeded)
    assert clock.now > 200


def test_a_stop_ends_the_work_and_closes_the_engine(jobs):
    engine = ScriptedEngine(lambda job, attempt: None)
    seen = []
    scheduler = Scheduler(jobs, engine, should_stop=lambda: len(engine.taken) > 0 and bool(seen.append(1) or True))
    events = list(scheduler.run())
    assert [type(event) for event in events] == [Started]
    assert not engine.open


def by_script(script):
    """The outcome of a training on each attempt: a list of events, one for each call."""
    scripts = {attempt: list(events) for attempt, events in script.items()}
    return lambda job, attempt: scripts[attempt].pop(0)


class Checkpointing(ScriptedEngine):
    """Like its base, but a checkpoint does not end a job."""

    def events(self, timeout):
        events = []
        for job in list(self._running.values()):
            if job.id not in self._begun:
                self._begun.add(job.id)
                self._attempts[job.id] += 1
            event = self._outcome(job, self._attempts[job.id])
            events.append(event)
            if not isinstance(event, Checkpointed | CheckpointFailed):
                del self._running[job.id]
                self._begun.remove(job.id)
        return events


def ref(number):
    return Ref(str(number) * 64)


def test_a_retry_goes_on_from_the_newest_checkpoint_and_older_ones_are_discarded():
    job = Job("a", None, {"data": ref(0)})
    engine = Checkpointing(
        by_script(
            {
                1: [Checkpointed("a", ref(1), 1), Checkpointed("a", ref(2), 2), Failed("a", "died", "", Cause.ENGINE)],
                2: [Checkpointed("a", ref(3), 3), Succeeded("a", None)],
            }
        )
    )
    discarded = []
    events = list(Scheduler([job], engine, discard=discarded.append).run())
    assert [job.inputs for job in engine.taken] == [{"data": ref(0)}, {"data": ref(0), "checkpoint": ref(2)}]
    assert [event.epoch for event in events if isinstance(event, Checkpointed)] == [1, 2, 3]
    assert discarded == [ref(1), ref(2), ref(3)]


def test_a_checkpoint_that_is_referenced_again_is_not_discarded():
    """One training saves the same state twice, and two trainings save the same state."""
    jobs = [Job(name, None, {"checkpoint": ref(1)}) for name in "ab"]
    events = {name: [Checkpointed(name, ref(1), 0), Checkpointed(name, ref(1), 0)] for name in "ab"}
    events["a"] += [Succeeded("a", None)]
    events["b"] += [Checkpointed("b", ref(2), 1), Failed("b", "wrong")]
    discarded = []
    engine = Checkpointing(lambda job, attempt: events[job.id].pop(0), slots=2)
    list(Scheduler(jobs, engine, discard=discarded.append).run())
    assert discarded == [ref(1), ref(2)]


def test_a_soft_stop_starts_no_more_jobs_and_waits_for_those_that_run(jobs):
    training = by_kind(jobs)["training", "vae"].id
    drain = []

    def outcome(job, attempt):
        if job.id == training:
            drain.append(True)
            return Stopped(job.id) if engine.stopped else Checkpointed(job.id, ref(len(drain)), len(drain))
        return succeed(job)

    engine = Checkpointing(outcome, slots=1)
    discarded = []
    events = list(Scheduler(jobs, engine, should_drain=lambda: bool(drain), discard=discarded.append).run())
    assert isinstance(events[-1], Stopped)
    assert engine.taken[-1].id == training
    newest = [event.ref for event in events if isinstance(event, Checkpointed)][-1]
    assert newest not in discarded
    assert not engine.open


def test_a_job_whose_worker_dies_during_a_soft_stop_is_stopped_and_not_retried():
    engine = Checkpointing(
        by_script({1: [Checkpointed("a", ref(1), 1), Failed("a", "died", "", Cause.ENGINE)]}),
    )
    events = list(Scheduler([Job("a", None)], engine, should_drain=lambda: bool(engine.taken)).run())
    assert [type(event) for event in events] == [Checkpointed, Draining, Stopped]
    assert len(engine.taken) == 1


def test_stored_checkpoints_reach_their_trainings(lay_out):
    cells = lay_out(models=["vanilla", "vae"], tasks=["reconstruction"]).cells
    saved = {cells[0].training.hash: ref(1)}
    jobs = by_kind(build_jobs(cells, INPUTS, {}, (), None, checkpoints=saved, checkpoint_every=7))
    first, second = (jobs["training", cell.training.label] for cell in cells)
    assert (first.inputs, second.inputs) == (INPUTS | {"checkpoint": ref(1)}, INPUTS)
    assert first.checkpoint_every == second.checkpoint_every == 7
