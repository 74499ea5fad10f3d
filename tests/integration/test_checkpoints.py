"""Trainings in worker processes that are killed, stopped or given damaged checkpoints end as if undisturbed."""

from __future__ import annotations

import io
import os
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
import torch

from aebench.execution.allocation import WorkerRole
from aebench.execution.artifacts import FolderStore
from aebench.execution.checkpoints import Checkpoints, save_checkpoints
from aebench.execution.events import (
    Checkpointed,
    CheckpointFailed,
    Failed,
    Progress,
    RetryScheduled,
    Started,
    Stopped,
    Succeeded,
)
from aebench.execution.jobs import DATA, WEIGHTS, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import WorkerConfig
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.planning.specs import TrainingSpec
from aebench.registry.loading import create_registry

SEQUENTIAL = (WorkerRole(1),)
TWO_WORKERS = (WorkerRole(2),)
CONCURRENT = (WorkerRole(1, evaluates=False, concurrent=2), WorkerRole(1, trains=False))

PLUGIN = """
import os, signal, time
from pathlib import Path
import torch
from aebench.contracts import Autoencoder, AutoencoderRecord, Evaluation, Metric, TaskRecord, hookimpl

class Slow(Autoencoder):
    '''Unless it shall be quick, a turn ends within an epoch; `steps` counts those in training.'''

    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))

    def loss(self, x, generator):
        if self.training:
            self.steps += 1
            time.sleep(0 if "QUICK" in os.environ else 0.25)
            while "WAITS" in os.environ and self.steps > 2 * 6 and not Path(os.environ["FOLDER"], "stopped").exists():
                time.sleep(0.05)  # in the third epoch
        return super().loss(x + 0.01 * torch.randn(x.shape, generator=generator), generator)

class Killed(Slow):
    '''Its process is killed once, in the second turn of the second epoch.'''

    def loss(self, x, generator):
        killed = Path(os.environ["FOLDER"], "killed")
        if self.training:
            if self.steps == 11 and not killed.exists():
                killed.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            with Path(os.environ["FOLDER"], "steps").open("a") as log:
                log.write(f"{int(self.steps)}\\n")
        return super().loss(x, generator)

@hookimpl
def aebench_autoencoders():
    models = {"slow": Slow, "slow_too": Slow, "killed": Killed}
    return [AutoencoderRecord(name=name, title="T", summary="-", build=build) for name, build in models.items()]

def waits(model, data, context):
    time.sleep(3)
    return Evaluation({"value": 1.0})

@hookimpl
def aebench_tasks():
    metric = Metric("value", "Value", higher_is_better=True, primary=True)
    return [TaskRecord(name="waits", title="T", summary="-", evaluate=waits, metrics=(metric,))]
"""
STEPS = 6  # of an epoch, with batches of 192
EPOCHS = 3


@pytest.fixture
def with_plugin(distribution, monkeypatch, tmp_path):
    """A registry with the plugin above, which counts as installed in this process and in worker processes."""
    monkeypatch.setenv("FOLDER", str(tmp_path))
    monkeypatch.syspath_prepend(distribution("checkpoint_test_plugin", PLUGIN)["PYTHONPATH"])
    return create_registry()


@pytest.fixture
def run(with_plugin, digits, tmp_path):
    """run(models, ...): a run of the matrix on one folder of artifacts, which all runs of a test share."""
    folder = tmp_path / "artifacts"
    folder.mkdir()

    def run(models, **options):
        return Run(with_plugin, digits, FolderStore(folder), models, **options)

    return run


class SaysWhenItStops(LocalExecutor):
    """Makes the file `stopped` when its workers have been asked to stop."""

    def stop(self):
        super().stop()
        Path(os.environ["FOLDER"], "stopped").touch()


class Run:
    """One run of a matrix; `on_event(event, run)` is called after each event, and may call `run.drain`."""

    def __init__(self, registry, data, artifacts, models, tasks=("reconstruction",), roles=SEQUENTIAL, every=0.0,
                 on_event=lambda event, run: None, checkpoints=None, saved_in=None):  # fmt: skip
        config = {("models",): models, ("tasks",): list(tasks), ("training", "epochs"): EPOCHS}
        config["training", "batch_size"] = 192
        cells = plan(load_benchmark(registry, None, config), data.info, "fp32", "cpu").cells
        self.artifacts = artifacts
        inputs = {DATA: artifacts.put_written(data.save)}
        jobs = build_jobs(cells, inputs, {}, (), None, checkpoints=checkpoints or {}, checkpoint_every=every)
        self.specs = {job.id: job.spec for job in jobs}
        self.events, self.draining = [], False
        executor = SaysWhenItStops(WorkerConfig(artifacts.folder, inputs[DATA], "cpu", registry.broken), roles)
        scheduler = Scheduler(jobs, executor, should_drain=lambda: self.draining, discard=artifacts.discard)
        events = scheduler.run()
        with closing(save_checkpoints(events, jobs, artifacts, saved_in) if saved_in else events) as events:
            for event in events:
                self.events.append(event)
                on_event(event, self)

    def drain(self):
        self.draining = True

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def epochs(self):
        """Model -> the epochs that were trained, in their order."""
        found = {}
        for event in self.of(Progress):
            found.setdefault(self.label(event), []).append(event.losses.epoch)
        return found

    def checkpoints(self):
        """Hash of a training -> its newest checkpoint."""
        return {self.specs[event.job_id].hash: event.ref for event in self.of(Checkpointed)}

    def weights(self):
        """Model -> reference to the content of its weights."""
        return {self.label(e): e.artifacts[WEIGHTS] for e in self.of(Succeeded) if WEIGHTS in e.artifacts}

    def result(self, model):
        """What the training of this model used."""
        (found,) = (e.result for e in self.of(Succeeded) if WEIGHTS in e.artifacts and self.label(e) == model)
        return found

    def trained(self, model):
        """Reference to the weights of a model, and the losses of its epochs."""
        return self.weights()[model], self.result(model).epochs

    def label(self, event):
        spec = self.specs[event.job_id]
        return spec.label if isinstance(spec, TrainingSpec) else spec.training.label


ALL_EPOCHS = list(range(1, EPOCHS + 1))


@pytest.fixture
def undisturbed(run, tmp_path, monkeypatch):
    """undisturbed(model): weights and losses of a training that nothing interrupts."""

    def undisturbed(model):
        killed, steps = tmp_path / "killed", tmp_path / "steps"
        killed.touch()
        with monkeypatch.context() as patch:
            patch.setenv("QUICK", "1")
            result = run([model], every=None)
        assert result.epochs() == {model: ALL_EPOCHS}
        assert result.checkpoints() == {}
        killed.unlink()
        steps.unlink(missing_ok=True)
        return result.trained(model)

    return undisturbed


def test_a_training_whose_worker_is_killed_goes_on_from_its_checkpoint(run, undisturbed, tmp_path):
    expected = undisturbed("killed")
    files = set((tmp_path / "artifacts").iterdir())
    found = run(["killed"])
    (retry,) = found.of(RetryScheduled)
    assert "SIGKILL" in retry.error
    assert found.trained("killed") == expected
    assert found.epochs() == {"killed": ALL_EPOCHS}  # no epoch again
    assert found.result("killed").optimizer_steps == EPOCHS * STEPS
    taken = Counter(map(int, (tmp_path / "steps").read_text().split()))
    assert taken[STEPS] == 1  # the first step of the epoch in which it was killed
    assert set((tmp_path / "artifacts").iterdir()) == files  # no checkpoint is left


DAMAGES = {"truncated": lambda content: content[:-7], "altered": lambda content: content[:-7] + b"altered"}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_checkpoint_is_noticed_and_its_training_starts_anew(run, undisturbed, damage, monkeypatch):
    def spoil(event, run):
        if isinstance(event, RetryScheduled):
            monkeypatch.setenv("QUICK", "1")
            file = run.artifacts.path(run.of(Checkpointed)[-1].ref)
            file.write_bytes(damage(file.read_bytes()))

    expected = undisturbed("killed")
    found = run(["killed"], on_event=spoil)
    (failed,) = found.of(CheckpointFailed)
    assert "is damaged: its content has changed" in failed.error
    assert found.epochs() == {"killed": [1, *ALL_EPOCHS]}
    assert found.trained("killed") == expected


class Harmful:
    """Unpickling it makes the folder `ran`."""

    def __reduce__(self):
        return os.mkdir, (os.path.join(os.environ["FOLDER"], "ran"),)


def test_a_checkpoint_with_code_is_refused_and_its_training_starts_anew(run, tmp_path):
    plain = run(["shallow"], every=None)
    (name,) = (spec.hash for spec in plain.specs.values() if isinstance(spec, TrainingSpec))
    buffer = io.BytesIO()
    torch.save({"training": name, "state": Harmful()}, buffer)
    found = run(["shallow"], checkpoints={name: plain.artifacts.put(buffer.getvalue())})
    (failed,) = found.of(CheckpointFailed)
    assert "starts anew" in failed.error
    assert not (tmp_path / "ran").exists()
    assert found.weights() == plain.weights()


@pytest.mark.parametrize("roles", [TWO_WORKERS, CONCURRENT], ids=["two_workers", "concurrent"])
def test_a_soft_stop_leaves_checkpoints_from_which_another_run_ends_identically(
    run, undisturbed, tmp_path, monkeypatch, roles
):
    expected = {model: undisturbed(model) for model in ("slow", "slow_too")}

    def drain(event, run):
        if Counter(event.epoch for event in run.of(Checkpointed))[1] == 2:
            run.drain()

    models = ["slow", "slow_too", "vanilla", "shallow"]
    saved_in = Checkpoints(tmp_path / "saved")
    with monkeypatch.context() as patch:
        patch.setenv("WAITS", "1")  # so that no training ends before the stop
        first = run(models, roles=roles, on_event=drain, saved_in=saved_in)
    assert not first.of(Failed | RetryScheduled)
    stopped = {first.specs[event.job_id] for event in first.of(Stopped)}
    succeeded = {first.specs[event.job_id] for event in first.of(Succeeded)}
    started = {first.specs[event.job_id] for event in first.of(Started)}
    assert {"slow", "slow_too"} <= {spec.label for spec in stopped}
    assert started == stopped | succeeded
    for spec in stopped:
        own = [event for event in first.events if first.specs.get(getattr(event, "job_id", None)) == spec]
        assert [type(event) for event in own[-2:]] == [Checkpointed, Stopped]

    contents = {spec.hash: saved_in.load(spec.hash, pytest.fail) for spec in stopped}
    refs = {name: first.artifacts.put(content) for name, content in contents.items()}
    monkeypatch.setenv("QUICK", "1")
    second = run(models, roles=roles, every=None, checkpoints=refs)
    assert not second.of(CheckpointFailed)
    assert {model: second.trained(model) for model in expected} == expected
    epochs = first.epochs(), second.epochs()
    for spec in stopped:
        assert epochs[0].get(spec.label, []) + epochs[1].get(spec.label, []) == ALL_EPOCHS


def test_a_soft_stop_lets_an_evaluation_run_to_its_end_and_starts_no_other(run):
    def drain(event, run):
        if isinstance(event, Started) and not isinstance(run.specs[event.job_id], TrainingSpec):
            run.drain()

    found = run(["shallow"], tasks=("waits", "reconstruction"), every=None, on_event=drain)
    evaluated = [event for event in found.of(Succeeded) if not isinstance(found.specs[event.job_id], TrainingSpec)]
    assert len(evaluated) == 1
    assert not found.of(Stopped | Failed)


def test_a_damaged_saved_checkpoint_is_redone(run, undisturbed, tmp_path, monkeypatch):
    def drain(event, run):
        if isinstance(event, Checkpointed) and event.epoch == 1:
            run.drain()

    expected = undisturbed("slow")
    saved_in = Checkpoints(tmp_path / "saved")
    stopped = run(["slow"], on_event=drain, saved_in=saved_in)
    (file,) = (tmp_path / "saved").glob("*.checkpoint")
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)
    (name,) = stopped.checkpoints()
    reasons = []
    assert saved_in.load(name, reasons.append) is None
    assert "damaged" in reasons[0]
    monkeypatch.setenv("QUICK", "1")
    again = run(["slow"], every=None)
    assert again.epochs() == {"slow": ALL_EPOCHS}
    assert again.trained("slow") == expected
