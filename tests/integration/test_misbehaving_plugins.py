"""Plugins that misbehave in a worker process cost their own results only, and are named."""

import contextlib
import os
import re
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psutil
import pytest
from mlflow import MlflowClient

from aebench.execution.allocation import WorkerRole
from aebench.execution.artifacts import FolderStore
from aebench.execution.events import Failed, RetryScheduled, Succeeded
from aebench.execution.job_output import OUTPUT
from aebench.execution.jobs import DATA, WEIGHTS, build_jobs
from aebench.execution.local import LocalExecutor
from aebench.execution.scheduler import Scheduler
from aebench.execution.worker import WorkerConfig
from aebench.planning.benchmark import load_benchmark
from aebench.planning.planner import plan
from aebench.planning.specs import EvaluationSpec
from aebench.registry.loading import create_registry

from .conftest import AEBENCH, environment

ONE_WORKER = (WorkerRole(1),)
CONCURRENT = (WorkerRole(1, evaluates=False, concurrent=3), WorkerRole(1, trains=False))

PLUGIN = """
import ctypes, logging, os, random, resource, sys, time
import numpy as np
import torch
from aebench.contracts import Autoencoder, AutoencoderRecord, Evaluation, Metric, TaskRecord, hookimpl

class Working(Autoencoder):
    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())

def change_everything():
    os.chdir("/")
    os.environ["OMP_NUM_THREADS"] = "7"
    torch.set_default_dtype(torch.float64)
    torch.set_num_threads(2)
    torch.set_flush_denormal(True)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(0)
    np.random.seed(0)
    random.seed(0)

class Meddling(Working):
    def on_epoch(self, epoch, epochs):
        change_everything()

class Printing(Working):
    def on_epoch(self, epoch, epochs):
        for number in range(1000):
            print(f"training line {number}")
        os.write(2, b"from a descriptor\\n")
        ctypes.CDLL(None).puts(b"from C")

class PrintingMuch(Working):
    def on_epoch(self, epoch, epochs):
        for number in range(400):
            print("x" * 9_999)
        print("the last line")

class Crashing(Working):
    def on_epoch(self, epoch, epochs):
        print("about to crash")
        ctypes.string_at(0)

class Leaking(Working):
    def on_epoch(self, epoch, epochs):
        self.kept = getattr(self, "kept", []) + [torch.ones(50_000_000)]  # 200 MB

class Greedy(Working):
    def on_epoch(self, epoch, epochs):
        torch.empty(10**13)

class HoldsTheLock(Working):
    def on_epoch(self, epoch, epochs):
        if os.fork() == 0:
            time.sleep(600)
            os._exit(0)
        with open(os.environ["HOLDING"], "w") as file:
            file.write(str(os.getpid()))
        ctypes.PyDLL(None).sleep(600)  # unlike CDLL, it does not release Python's lock

MODELS = {
    model.__name__.lower(): model
    for model in (Working, Meddling, Printing, PrintingMuch, Crashing, Leaking, Greedy, HoldsTheLock)
}

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name=name, title="T", summary="-", build=build) for name, build in MODELS.items()]

def meddles(model, data, context):
    change_everything()
    return Evaluation({"value": 1.0})

def prints(model, data, context):
    print("evaluating")
    logging.getLogger("mine").warning("a warning")
    return Evaluation({"value": 1.0})

def crashes(model, data, context):
    print("about to crash")
    ctypes.string_at(0)

def limited(model, data, context):
    # The largest batch does not fit into the address space that is left, the smaller ones do.
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 500_000_000, hard))
    try:
        largest = 0
        for x in data.train.batches():
            torch.empty(len(x), 1_000_000)
            largest = max(largest, len(x))
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    return Evaluation({"value": float(largest)})

def insatiable(model, data, context):
    return Evaluation({"value": float(np.empty(10**13)[0])})

@hookimpl
def aebench_tasks():
    metric = Metric("value", "Value", higher_is_better=True, primary=True)
    return [
        TaskRecord(name=evaluate.__name__, title="T", summary="-", evaluate=evaluate, metrics=(metric,))
        for evaluate in (meddles, prints, crashes, limited, insatiable)
    ]
"""


@pytest.fixture
def with_plugin(distribution, monkeypatch):
    """A registry with the plugin above, which counts as installed in this process and in worker processes."""
    monkeypatch.syspath_prepend(distribution("misbehaving_test_plugin", PLUGIN)["PYTHONPATH"])
    yield create_registry()
    sys.modules.pop("misbehaving_test_plugin", None)


class Run:
    """One run of a matrix on digits; its events by (model, task), where the task of a training is None."""

    def __init__(self, folder, registry, data, models, tasks, roles=ONE_WORKER, epochs=2, timeout=None, **config):
        options = {("models",): models, ("tasks",): tasks, ("training", "epochs"): epochs}
        cells = plan(load_benchmark(registry, None, options), data.info, "fp32", "cpu").cells
        folder.mkdir(exist_ok=True)
        self.artifacts = FolderStore(folder)
        inputs = {DATA: self.artifacts.put_written(data.save)}
        jobs = {job.id: job for job in build_jobs(cells, inputs, {}, (), timeout)}
        executor = LocalExecutor(WorkerConfig(folder, inputs[DATA], "cpu", registry.broken), roles, **config)
        self.ends, self.retries = {}, []
        with closing(Scheduler(jobs.values(), executor).run()) as events:
            for event in events:
                spec = jobs[event.job_id].spec
                key = (spec.training.label, spec.task) if isinstance(spec, EvaluationSpec) else (spec.label, None)
                if isinstance(event, Succeeded | Failed):
                    assert key not in self.ends
                    self.ends[key] = event
                elif isinstance(event, RetryScheduled):
                    self.retries.append((key, event.error))
        assert not (folder / "output").exists()  # what was printed has been collected

    def metrics(self, model, task):
        return self.ends[model, task].result.metrics

    def weights(self, model):
        return self.ends[model, None].artifacts[WEIGHTS]

    def output(self, model, task=None):
        """What the job printed."""
        return self.artifacts.path(self.ends[model, task].artifacts[OUTPUT]).read_text()


CHANGED = (
    "changed the working directory; it was restored",
    "changed torch's default dtype; it was restored",
    "changed torch's number of threads; it was restored",
    "changed whether torch uses deterministic algorithms; it was restored",
    "changed whether torch flushes subnormal numbers to zero; it was restored",
    "changed the environment variable OMP_NUM_THREADS; it was restored",
    "changed the state of torch's global random generator; it was restored",
    "changed the state of numpy's global random generator; it was restored",
    "changed the state of random's global random generator; it was restored",
)


@pytest.mark.parametrize("roles", [ONE_WORKER, CONCURRENT])
def test_side_effects_of_one_job_change_no_other_result_and_are_named(with_plugin, digits, tmp_path, roles):
    tasks = ["reconstruction", "interpolation"]
    models = ["vae", "stacked"]
    alone = Run(tmp_path / "alone", with_plugin, digits, models, tasks, roles)
    beside = Run(tmp_path / "beside", with_plugin, digits, ["meddling", *models], ["meddles", *tasks], roles)
    for model in models:
        assert beside.weights(model) == alone.weights(model)
        for task in tasks:
            assert beside.metrics(model, task) == alone.metrics(model, task)
    notes = {key: set(end.notes) for key, end in beside.ends.items() if end.notes}
    assert notes == {key: set(CHANGED) for key in beside.ends if key == ("meddling", None) or key[1] == "meddles"}


def test_what_jobs_print_is_an_artifact_and_not_shown(with_plugin, digits, tmp_path, capfd):
    models = ["printing", "printingmuch", "working"]
    run = Run(tmp_path, with_plugin, digits, models, ["prints", "reconstruction"], CONCURRENT)
    lines = [f"training line {number}" for number in range(1000)]
    assert run.output("printing").splitlines() == [*lines, "from a descriptor", "from C"] * 2
    assert run.output("working", "prints").splitlines() == ["evaluating", "a warning"]
    first, *_, last = run.output("printingmuch").splitlines()
    assert first.startswith("[the first ")
    assert last == "the last line"
    assert len(run.output("printingmuch")) < 1_001_000
    assert OUTPUT not in run.ends["working", None].artifacts
    assert capfd.readouterr() == ("", "")


def test_a_segmentation_fault_costs_only_its_own_cells_and_leaves_its_stack(with_plugin, digits, tmp_path, capfd):
    run = Run(tmp_path, with_plugin, digits, ["working", "crashing"], ["crashes", "reconstruction"])
    failed = {key: end.error for key, end in run.ends.items() if isinstance(end, Failed)}
    crashing = [("crashing", None), ("crashing", "crashes"), ("crashing", "reconstruction")]
    assert failed == dict.fromkeys([("working", "crashes"), *crashing], "the worker process died (SIGSEGV)")
    for model, where in (("working", "in crashes"), ("crashing", "in on_epoch")):
        output = run.output(model, "crashes")
        assert output.startswith("about to crash\n")
        assert "Fatal Python error: Segmentation fault" in output
        assert where in output
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_leaks_is_ended_and_its_job_retried_alone(with_plugin, digits, tmp_path):
    limit = 1_200_000_000
    run = Run(tmp_path, with_plugin, digits, ["leaking", "working"], ["reconstruction"], epochs=60, worker_memory=limit)
    message = r"the worker process used [\d.]+ GB of memory, more than its limit of 1.2 GB \(--worker-memory\)"
    ((key, first),) = run.retries
    assert key == ("leaking", None)
    assert re.fullmatch(message, first)
    assert re.fullmatch(message, run.ends["leaking", "reconstruction"].error)
    assert isinstance(run.ends["working", "reconstruction"], Succeeded)


def test_an_evaluation_that_runs_out_of_memory_gets_smaller_batches(with_plugin, digits, tmp_path):
    run = Run(tmp_path, with_plugin, digits, ["working"], ["limited", "insatiable", "reconstruction"])
    assert run.metrics("working", "limited") == {"value": 64.0}
    (note,) = run.ends["working", "limited"].notes
    assert note == "ran out of memory with 256 images at once, and was evaluated with 64 at once"
    assert re.fullmatch(
        r"out of memory: 80 TB were asked for, with batches of 16 to 256 images of 1 x 8 x 8 and a model of "
        r"[\d,]+ parameters; [\d.]+ [GM]B of the machine's [\d.]+ GB are free; try .*",
        run.ends["working", "insatiable"].error,
    )
    assert isinstance(run.ends["working", "reconstruction"], Succeeded)


def test_a_training_that_runs_out_of_memory_says_how_much_it_asked_for(with_plugin, digits, tmp_path):
    run = Run(tmp_path, with_plugin, digits, ["greedy"], ["reconstruction"])
    error = run.ends["greedy", None].error
    assert error.startswith("out of memory: 40 TB were asked for, with batches of 64 images of 1 x 8 x 8 and a model ")
    assert "training.batch_size" in error


@pytest.mark.skipif(sys.platform != "linux", reason="needs signals of the Linux kernel")
def test_no_process_outlives_a_driver_that_is_killed_while_a_plugin_holds_pythons_lock(home, distribution):
    holding = home.path / "holding"
    own = {"HOLDING": str(holding), "AEBENCH_WORK_DIR": str(home.path / "work")}  # no later run cleans up
    env = environment(**own, **distribution("misbehaving_test_plugin", PLUGIN))
    env["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    command = [AEBENCH, "run", "--models", "holdsthelock", "--tasks", "reconstruction", "--jobs", "2"]
    with subprocess.Popen(command, cwd=home.path, env=env, stdout=subprocess.DEVNULL) as driver:
        while not (holding.exists() and holding.read_text()):
            assert driver.poll() is None
            time.sleep(0.05)
        started = psutil.Process(driver.pid).children(recursive=True)
        assert psutil.Process(int(holding.read_text())).children()  # what the plugin has forked
        driver.kill()
        _, alive = psutil.wait_procs(started, timeout=5)
    assert [process for process in alive if process.status() != psutil.STATUS_ZOMBIE] == []


TALKATIVE = """
import os
import torch
from aebench.contracts import Autoencoder, AutoencoderRecord, Evaluation, Metric, TaskRecord, hookimpl

print("imported")
os.chdir("/")
os.environ["MINE"] = "1"

class Talkative(Autoencoder):
    def __init__(self, spec):
        super().__init__(spec, spec.encoder(spec.latent_dim), spec.decoder())

    def on_epoch(self, epoch, epochs):
        print("training")

def talks(model, data, context):
    print("evaluating")
    torch.set_num_threads(3)
    return Evaluation({"value": 1.0})

def fails(model, data, context):
    print("failing")
    raise ValueError("no luck")

@hookimpl
def aebench_autoencoders():
    return [AutoencoderRecord(name="talkative", title="T", summary="-", build=Talkative)]

@hookimpl
def aebench_tasks():
    metric = Metric("value", "Value", higher_is_better=True, primary=True)
    return [
        TaskRecord(name=evaluate.__name__, title="T", summary="-", evaluate=evaluate, metrics=(metric,))
        for evaluate in (talks, fails)
    ]
"""


def test_a_run_names_side_effects_and_stores_what_was_printed(home, distribution):
    env = distribution("talkative_test_plugin", TALKATIVE)
    env["PYTHONPATH"] += os.pathsep + os.environ.get("PYTHONPATH", "")
    done = home.run("run", "--models", "talkative", "--tasks", "talks,fails", "--epochs", 1, "--jobs", 1, code=1, **env)
    (line,) = done.stderr.splitlines()
    assert line == (
        "aebench: plugin talkative_test_plugin changed the working directory and the environment variable MINE "
        "at import; it was restored"
    )
    note = "talkative × talks · seed 0: changed torch's number of threads; it was restored"
    assert note in done.stdout
    for printed in ("imported", "training\n", "evaluating", "failing"):
        assert printed not in done.stdout
    client = MlflowClient(home.uri)
    (experiment,) = client.search_experiments(filter_string="name = 'aebench-digits'")
    (run,) = client.search_runs([experiment.experiment_id], "tags.model = 'talkative'")
    assert run.data.tags["cell.talks.notes"] == "changed torch's number of threads; it was restored"
    with contextlib.chdir(home.path):  # paths of artifacts are relative to where the matrix was run
        texts = {
            path: Path(client.download_artifacts(run.info.run_id, path)).read_text()
            for path in ("weights/general.output.txt", "talks/output.txt", "fails/output.txt")
        }
    assert list(texts.values()) == ["training\n", "evaluating\n", "failing\n"]
