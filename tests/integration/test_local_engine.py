"""The scheduler with worker processes: concurrent trainings and their failures, killed and hanging workers."""

import io
import os
import random
import signal
import sys
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from multiprocessing import active_children, get_context

import psutil
import pytest
import torch

from aebench.execution.allocation import EXPORTER, WorkerRole, allocate
from aebench.execution.artifacts import FolderStore
from aebench.execution.events import Failed, Progress, RetryScheduled, Succeeded
from aebench.execution.jobs import DATA, PROGRAM, WEIGHTS, build_exports, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import DEVICE_IS_BROKEN, WorkerConfig, _exit_if_broken
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.planning.specs import EvaluationSpec, ExportSpec, TrainingSpec
from aebench.registry.loading import create_registry

CPU = torch.device("cpu")
SEQUENTIAL = (WorkerRole(1),)
TWO_WORKERS = (WorkerRole(2),)
CONCURRENT = (
    WorkerRole(1, evaluates=False, concurrent=3),
    WorkerRole(1, evaluates=False, only_retries=True),
    WorkerRole(2, trains=False),
)

PLUGIN = """
import os, signal, time, torch, weakref
from aebench.contracts import Autoencoder, AutoencoderRecord, Evaluation, Loss, Metric, TaskRecord, hookimpl

LIVE = weakref.WeakSet()

class Working(Autoencoder):
    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())

class Concurrent(Working):
    def loss(self, x, generator):
        LIVE.add(self)
        return super().loss(x, generator)

class FailsConcurrently(Concurrent):
    def loss(self, x, generator):
        if any(other is not self and not isinstance(other, FailsConcurrently) for other in LIVE):
            raise RuntimeError("disturbed")
        return super().loss(x, generator)

class Diverging(Working):
    def loss(self, x, generator):
        loss = super().loss(x, generator)
        return Loss(loss.total * float("nan"), loss.reconstruction, loss.penalty)

class Killed(Working):
    def loss(self, x, generator):
        os.kill(os.getpid(), signal.SIGKILL)

class Failing(Working):
    def loss(self, x, generator):
        raise ValueError("cannot be trained")

class Hanging(Working):
    def loss(self, x, generator):
        while True:
            time.sleep(1)

class KilledInExport(Working):
    def forward(self, x):
        if torch.compiler.is_exporting():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(x)

class FailsInExport(Working):
    def forward(self, x):
        if torch.compiler.is_exporting():
            raise ValueError("cannot be exported")
        return super().forward(x)

class HangingInExport(Working):
    def forward(self, x):
        while torch.compiler.is_exporting():
            time.sleep(1)
        return super().forward(x)

MODELS = {"concurrent": Concurrent, "fails_concurrently": FailsConcurrently, "killed": Killed, "failing": Failing,
          "diverging": Diverging, "hanging": Hanging,
          "killed_in_export": KilledInExport, "hanging_in_export": HangingInExport,
          "fails_in_export": FailsInExport}

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name=name, title="T", summary="-", build=build) for name, build in MODELS.items()]

warm_ups = 0

def kills(model, data, context):
    os.kill(os.getpid(), signal.SIGKILL)

def hangs(model, data, context):
    while True:
        time.sleep(1)

def warm_up(data):
    global warm_ups
    warm_ups += data.sizes[2] > 0

def forks(model, data, context):
    pid = os.fork()
    if pid == 0:
        time.sleep(600)
        os._exit(0)
    with open(os.path.join(os.environ["FORKED"], f"forked-{pid}"), "w") as file:
        file.write(str(pid))
    os.kill(os.getpid(), signal.SIGKILL)

def dies(data): os.kill(os.getpid(), signal.SIGKILL)
def raises(data): raise RuntimeError("not installed")
def where(model, data, context): return Evaluation({"pid": os.getpid(), "warm_ups": warm_ups})

@hookimpl
def aebench_tasks():
    pid = Metric("pid", "Process", higher_is_better=True, primary=True)
    metrics = (pid, Metric("warm_ups", "Warm-ups", higher_is_better=True))
    return [
        TaskRecord(name=name, title="T", summary="-", evaluate=evaluate, metrics=metrics, warm_up=warm_up)
        for name, evaluate, warm_up in (
            ("killing", kills, None), ("hanging_task", hangs, None), ("quick", where, None), ("forking", forks, None),
            ("slow", where, warm_up), ("warm_up_fails", where, raises), ("warm_up_killed", where, dies),
        )
    ]
"""


@pytest.fixture
def with_plugin(distribution, monkeypatch, tmp_path):
    """A registry with the plugin above, which counts as installed in this process and in worker processes."""
    monkeypatch.setenv("FORKED", str(tmp_path))
    monkeypatch.syspath_prepend(distribution("engine_test_plugin", PLUGIN)["PYTHONPATH"])
    return create_registry()


class Run:
    """One run of a matrix; `on_event(event, executor)` is called after each event."""

    def __init__(self, folder, registry, data, roles, models, tasks, epochs=2, device=CPU, timeout=None,
                 on_event=lambda event, executor: None, weights=None, exports=False):  # fmt: skip
        options = {("models",): models, ("tasks",): tasks, ("training", "epochs"): epochs}
        cells = plan(load_benchmark(registry, None, options), data.info, "fp32", device.type).cells
        self.artifacts = FolderStore(folder)
        inputs = {DATA: self.artifacts.put_written(data.save)}
        jobs = build_jobs([cell for cell in cells if cell.skip is None], inputs, weights or {}, (), timeout)
        if exports:
            jobs += [
                replace(job, timeout=10.0 if "hanging" in job.id else 300.0)
                for job in build_exports(jobs, data.info.input_shape)
            ]
        self.specs = {job.id: job.spec for job in jobs}
        executor = LocalExecutor(WorkerConfig(folder, inputs[DATA], str(device), registry.broken), roles)
        self.events = []
        with closing(Scheduler(jobs, executor).run()) as events:
            for event in events:
                self.events.append(event)
                on_event(event, executor)

    def of(self, kind):
        return [event for event in self.events if isinstance(event, kind)]

    def label(self, event):
        spec = self.specs[event.job_id]
        return spec.label if isinstance(spec, TrainingSpec) else spec.training.label

    def cells(self):
        """(model, task) -> metrics, or the error."""
        ends = [event for event in self.of(Succeeded | Failed) if isinstance(self.specs[event.job_id], EvaluationSpec)]
        assert max(Counter(event.job_id for event in ends).values()) == 1  # each is reported once
        found = {}
        for event in ends:
            value = event.result.metrics if isinstance(event, Succeeded) else event.error
            found[self.label(event), self.specs[event.job_id].task] = value
        return found

    def weights(self):
        """Training spec -> content reference."""
        return {self.specs[e.job_id]: e.artifacts[WEIGHTS] for e in self.of(Succeeded) if WEIGHTS in e.artifacts}


def test_concurrent_trainings_give_the_results_of_sequential_ones(registry, digits, tmp_path):
    given = ["vanilla", "stacked", "vae", "pca"], ["reconstruction", "anomaly_detection"]
    runs = []
    for name, roles in (("sequential", SEQUENTIAL), ("concurrent", CONCURRENT)):
        (tmp_path / name).mkdir()
        runs.append(Run(tmp_path / name, registry, digits, roles, *given))
    sequential, concurrent = runs
    assert sequential.weights() == concurrent.weights()
    assert sequential.cells() == concurrent.cells()
    assert len(sequential.cells()) == len(given[0]) * len(given[1])
    assert _interleaved(concurrent)
    assert not _interleaved(sequential)


def _interleaved(run):
    """Whether a training made progress between two epochs of another one."""
    epochs = [event.job_id for event in run.of(Progress)]
    changes = sum(one != other for one, other in pairwise(epochs))
    return changes > len(set(epochs)) - 1


def test_a_training_that_fails_among_concurrent_ones_is_retried_alone(with_plugin, digits, tmp_path):
    models = ["concurrent", "fails_concurrently", "failing"]
    run = Run(tmp_path, with_plugin, digits, CONCURRENT, models, ["reconstruction"], epochs=50)
    retried = {run.label(event): event.error for event in run.of(RetryScheduled)}
    assert retried == {
        "fails_concurrently": "RuntimeError: disturbed",
        "failing": "ValueError: cannot be trained",
    }
    cells = run.cells()
    assert cells.pop(("failing", "reconstruction")) == "ValueError: cannot be trained"
    assert all("nll" in metrics for metrics in cells.values())
    assert "in loss" in run.of(Failed)[0].traceback


def test_a_known_error_is_not_retried(with_plugin, digits, tmp_path):
    run = Run(tmp_path, with_plugin, digits, CONCURRENT, ["concurrent", "diverging"], ["reconstruction"], epochs=50)
    assert not run.of(RetryScheduled)
    cells = run.cells()
    assert "nll" in cells["concurrent", "reconstruction"]
    assert cells["diverging", "reconstruction"].startswith("the training loss became nan in epoch 1")


@pytest.mark.parametrize("roles", [TWO_WORKERS, CONCURRENT])
def test_an_evaluation_that_kills_its_process_costs_only_its_own_cell(with_plugin, digits, tmp_path, roles):
    tasks = ["reconstruction", "killing", "anomaly_detection"]
    cells = Run(tmp_path, with_plugin, digits, roles, ["vanilla", "vae"], tasks).cells()
    assert len(cells) == 6
    for (_, task), found in cells.items():
        if task == "killing":
            assert found.startswith("the worker process died (SIGKILL")
        else:
            assert isinstance(found, dict), found


def test_an_export_that_fails_or_kills_its_process_or_hangs_costs_only_the_exported_model(
    with_plugin, digits, tmp_path
):
    models = ["vanilla", "killed_in_export", "hanging_in_export", "fails_in_export"]
    roles = (*TWO_WORKERS, EXPORTER)
    run = Run(tmp_path, with_plugin, digits, roles, models, ["reconstruction"], epochs=1, exports=True)
    assert all("nll" in metrics for metrics in run.cells().values())
    exports = {
        run.label(event): event
        for event in run.of(Succeeded | Failed)
        if isinstance(run.specs[event.job_id], ExportSpec)
    }
    assert exports["killed_in_export"].error.startswith("the worker process died (SIGKILL")
    assert exports["hanging_in_export"].error == "timed out after 10 s"
    assert exports["fails_in_export"].error == "ValueError: cannot be exported"
    content = run.artifacts.path(exports["vanilla"].artifacts[PROGRAM]).read_bytes()
    images = torch.rand(5, *digits.info.input_shape)
    assert torch.export.load(io.BytesIO(content)).module()(images).shape == images.shape


@pytest.mark.parametrize("roles", [TWO_WORKERS, CONCURRENT])
def test_a_training_that_kills_its_process_costs_only_its_own_cells(with_plugin, digits, tmp_path, roles):
    tasks = ["reconstruction", "anomaly_detection"]
    cells = Run(tmp_path, with_plugin, digits, roles, ["vanilla", "killed", "vae", "shallow"], tasks).cells()
    assert len(cells) == 8
    for (model, _), found in cells.items():
        if model == "killed":
            assert found.startswith("the worker process died (SIGKILL")
        else:
            assert isinstance(found, dict), found


@pytest.mark.parametrize(("roles", "epochs"), [(TWO_WORKERS, 1), (CONCURRENT, 10)])
def test_a_job_that_hangs_costs_only_its_own_cells(with_plugin, digits, tmp_path, roles, epochs):
    tasks = ["reconstruction", "hanging_task"]
    run = Run(tmp_path, with_plugin, digits, roles, ["vanilla", "hanging", "vae"], tasks, epochs=epochs, timeout=15)
    cells = run.cells()
    assert len(cells) == 6
    for (model, task), found in cells.items():
        if model == "hanging" or task == "hanging_task":
            assert found == "timed out after 15 s"
        else:
            assert isinstance(found, dict), found


@pytest.mark.skipif(sys.platform != "linux", reason="workers lead a process group on Linux only")
def test_a_death_is_noticed_and_ends_the_processes_that_the_worker_forked(with_plugin, digits, tmp_path):
    run = Run(tmp_path, with_plugin, digits, SEQUENTIAL, ["vanilla"], ["forking", "reconstruction"], epochs=1)
    cells = run.cells()
    assert cells["vanilla", "forking"].startswith("the worker process died (SIGKILL")
    assert "nll" in cells["vanilla", "reconstruction"]
    forked = [int(file.read_text()) for file in tmp_path.glob("forked-*")]
    assert len(forked) == 2
    alive = [psutil.Process(pid) for pid in forked if psutil.pid_exists(pid)]
    assert psutil.wait_procs(alive, timeout=15)[1] == []


PREPARED = allocate(CPU, frozenset({"latent_structure"}), jobs=2)


@pytest.mark.parametrize(
    ("roles", "task", "epochs"), [(PREPARED, "latent_structure", 6), (CONCURRENT, "interpolation", 60)]
)
def test_killing_any_worker_at_any_moment_costs_at_most_its_jobs(registry, digits, tmp_path, roles, task, epochs):
    """Twenty kills of workers that start, wait or work; each can harm the jobs of one, which are retried or fail."""
    generator = random.Random(0)
    models, tasks = list(registry.autoencoders), ["reconstruction", task]
    remaining = 20
    while remaining:
        kills = []

        def kill_one(event, executor, kills=kills, most=remaining):
            workers = active_children()  # starting, waiting or running a job
            if workers and len(kills) < most and generator.random() < 0.6:
                worker = generator.choice(workers)
                os.kill(worker.pid, signal.SIGKILL)
                kills.append(worker.pid)

        run = Run(tmp_path, registry, digits, roles, models, tasks, epochs=epochs, on_event=kill_one)
        assert kills
        remaining -= len(kills)
        assert len(run.cells()) == len(models) * len(tasks)
        own_failures = [event for event in run.of(Failed) if not event.failed_dependency]
        harmed_at_most = len(kills) * max(role.concurrent for role in roles)
        assert len(run.of(RetryScheduled)) + len(own_failures) <= harmed_at_most
        for event in run.of(RetryScheduled | Failed):
            assert "SIGKILL" in event.error
        ends = Counter(event.job_id for event in run.of(Succeeded | Failed))
        assert ends == Counter(list(run.specs))


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux only")
def test_the_run_survives_the_death_of_the_server_that_forks_workers(with_plugin, digits, tmp_path):
    """It takes its workers along, whose jobs are retried or fail."""
    kills = []

    def kill_the_server(event, executor):
        if not kills and isinstance(event, Progress) and event.losses.epoch > 10:
            children = psutil.Process().children()
            (server,) = (child for child in children if "forkserver" in " ".join(child.cmdline()))
            kills.extend(server.children())
            server.kill()

    run = Run(tmp_path, with_plugin, digits, TWO_WORKERS, ["hanging", "vanilla", "vae"], ["reconstruction"],
              epochs=20, timeout=15, on_event=kill_the_server)  # fmt: skip
    assert len(kills) == 2
    assert len(run.cells()) == 3
    assert psutil.wait_procs(kills, timeout=15)[1] == []


def test_a_model_with_stored_weights_is_only_evaluated(registry, digits, tmp_path):
    given = registry, digits, SEQUENTIAL, ["vanilla"], ["reconstruction"]
    first = Run(tmp_path, *given)
    weights = {spec.hash: ref for spec, ref in first.weights().items()}
    again = Run(tmp_path, *given, weights=weights)
    assert again.weights() == {}
    assert again.cells() == first.cells()


SLOW = ("slow", "warm_up_fails", "warm_up_killed")


def _prepared(tasks):
    """Roles of one worker without preparation, and one that prepares for the slow tasks among these."""
    return WorkerRole(1), WorkerRole(1, prepares=frozenset(tasks) & set(SLOW))


def test_one_worker_prepares_once_for_all_slow_tasks(with_plugin, digits, tmp_path):
    models, tasks = ["shallow", "vanilla", "vae"], ["slow", "warm_up_fails", "quick"]
    cells = Run(tmp_path, with_plugin, digits, _prepared(tasks), models, tasks, epochs=1).cells()
    pids = {task: {cells[model, task]["pid"] for model in models} for task in tasks}
    assert {cells[model, "slow"]["warm_ups"] for model in models} == {1}
    assert len(pids["slow"]) == 1
    assert pids["warm_up_fails"] == pids["slow"]  # a failed warm-up alone does not fail its task


def test_if_a_warm_up_kills_the_worker_slow_tasks_run_without_preparation(with_plugin, digits, tmp_path):
    models, tasks = ["shallow", "vanilla"], ["warm_up_killed", "slow", "quick"]
    cells = Run(tmp_path, with_plugin, digits, _prepared(tasks), models, tasks, epochs=1).cells()
    assert {metrics["warm_ups"] for metrics in cells.values()} == {0}
    assert len(cells) == len(models) * len(tasks)


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_if_no_worker_can_start_every_cell_has_the_reason(registry, digits, tmp_path, monkeypatch, workers):
    monkeypatch.setenv("AEBENCH_PLUGIN_SECONDS", "nonsense")  # the registry of a worker rejects it
    roles = allocate(CPU, frozenset({"latent_structure"}), workers)
    models, tasks = ["shallow", "vanilla"], ["reconstruction", "latent_structure"]
    cells = Run(tmp_path, registry, digits, roles, models, tasks, epochs=1).cells()
    assert len(cells) == len(models) * len(tasks)
    assert set(cells.values()) == {"the worker process died (exit code 1)"}


@pytest.mark.parametrize(("device", "jobs", "trainings"), [("cpu", 3, 3), ("cuda", None, 8), ("cuda", 2, 2)])
def test_the_allocation_depends_on_the_device(monkeypatch, device, jobs, trainings):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**40, 2**40))
    roles = allocate(torch.device(device), frozenset({"slow"}), jobs)
    assert sum(role.count * role.concurrent for role in roles if role.trains and not role.only_retries) == trainings
    assert any(role.evaluates and "slow" in role.prepares for role in roles)


def test_a_small_device_has_one_evaluator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (3 * 2**30, 2**32))
    assert sum(role.count for role in allocate(torch.device("cuda"), frozenset()) if role.evaluates) == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
def test_a_worker_with_an_unusable_device_exits():
    process = get_context("spawn").Process(target=_exit_if_broken, args=(torch.device("cuda"),))
    process.start()
    process.join()
    assert process.exitcode == DEVICE_IS_BROKEN


@pytest.mark.cuda
def test_on_cuda_concurrent_trainings_give_the_results_of_sequential_ones(registry, digits, tmp_path):
    given = ["vanilla", "stacked", "vae", "vq_vae", "pca"], ["reconstruction", "latent_structure", "anomaly_detection"]
    device, slow = torch.device("cuda"), frozenset({"latent_structure"})
    found = []
    for jobs in (1, None):
        folder = tmp_path / str(jobs)
        folder.mkdir()
        found.append(Run(folder, registry, digits, allocate(device, slow, jobs), *given, device=device).cells())
    expected, concurrent = found
    assert len(expected) == len(given[0]) * len(given[1])
    for key, metrics in expected.items():
        if key[1] == "reconstruction":
            assert concurrent[key] == pytest.approx(metrics, rel=0.01)
