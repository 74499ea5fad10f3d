"""A worker process of the local engine: receives jobs through a pipe, runs them in turns, and sends events."""

from __future__ import annotations

import contextlib
import ctypes
import faulthandler
import gc
import io
import os
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from multiprocessing import connection, forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext, ForkServerProcess, SpawnContext, SpawnProcess
from pathlib import Path

import torch

from aebench.execution.artifacts import FolderStore, Ref
from aebench.execution.events import Event, Failed
from aebench.execution.isolated_job import IsolatedJob
from aebench.execution.job_output import create_output_file, output_path
from aebench.execution.jobs import Job
from aebench.execution.run_job import JobRunner
from aebench.memory import keep_freed_memory, return_freed_memory
from aebench.registry.loading import create_registry
from aebench.registry.printed_output import flush_output
from aebench.registry.records import Origin

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
DEVICE_IS_BROKEN = 70  # exit code
PR_SET_PDEATHSIG = 1  # of prctl

WorkerProcess = ForkServerProcess | SpawnProcess


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration of a worker.

    Attributes:
        artifacts: folder of the artifacts.
        data: reference to the data set.
        device: name of the device on which jobs run.
        without: plugins that failed to load in the driver; the worker does not load them.
        prepares: names of the tasks whose `warm_up` runs when the worker starts.
        concurrent: number of jobs that take turns.
    """

    artifacts: Path
    data: Ref
    device: str
    without: Collection[Origin]
    prepares: tuple[str, ...] = ()
    concurrent: int = 1

    @property
    def output(self) -> Path:
        """The folder of what jobs and workers print."""
        return self.artifacts / "output"


class Ready:
    """Sent once, when a worker can take jobs."""


class Stop:
    """Sent to a worker: its trainings end before their next turn, and it gets no more jobs."""


def start_server() -> None:
    """On Linux, start the process from which workers are forked: it imports PyTorch while the caller goes on.

    An error of the system shows again when the first worker starts.
    """
    if isinstance(_context(), ForkServerContext):
        with contextlib.suppress(OSError), _worker_environment(), _without_interrupts():
            forkserver.ensure_running()


def start_worker(config: WorkerConfig) -> tuple[WorkerProcess, Connection]:
    """Start a worker; return its process and a pipe that takes jobs and `Stop`, and gives `Ready` and events.

    Closing the pipe ends the worker.
    """
    context = _context()
    ours, theirs = context.Pipe()
    with _worker_environment(), _without_interrupts():
        process = context.Process(target=_serve, args=(theirs, config, dict(os.environ)), name="aebench-worker")
        process.start()
    theirs.close()
    return process, ours


def _context() -> ForkServerContext | SpawnContext:
    """On Linux, fork workers from a server that has imported PyTorch once; elsewhere, forking is not safe.

    A worker then starts in a tenth of the time, and all share the memory of the imported modules. The server has
    loaded no plugins and has no CUDA context.
    """
    if sys.platform != "linux":
        return get_context("spawn")
    context = get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


def _serve(pipe: Connection, config: WorkerConfig, environment: dict[str, str]) -> None:
    os.environ.clear()  # of the server, which keeps that of the first start
    os.environ.update(environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides what an interrupt means
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    _lead_own_group()
    _exit_with_the_driver()
    _print_to(output_path(config.output, worker_name(os.getpid())))
    torch.set_num_threads(1)
    keep_freed_memory()
    device = torch.device(config.device)
    runner = JobRunner(create_registry(without=config.without), FolderStore(config.artifacts), device)
    runner.prepare(config.prepares, config.data)
    gc.freeze()  # later collections need not look through the many objects of imported modules
    return_freed_memory()
    with contextlib.suppress(EOFError, OSError):  # the driver has closed the pipe
        pipe.send(Ready())
        _run_jobs(pipe, runner, config, device)


def _run_jobs(pipe: Connection, runner: JobRunner, config: WorkerConfig, device: torch.device) -> None:
    """Run jobs until the pipe is closed; the driver sends no more of them than may take turns."""
    in_progress: list[IsolatedJob] = []
    stop = threading.Event()
    has_failed = False  # a failure may damage the process, and so cause later failures

    def emit(event: Event) -> None:
        nonlocal has_failed
        pipe.send(event)
        if isinstance(event, Failed):
            has_failed = True
            _exit_if_broken(device)

    while True:
        while not in_progress or pipe.poll():
            message: Job | Stop = pipe.recv()
            if isinstance(message, Stop):
                stop.set()
                continue
            in_progress.append(IsolatedJob(message, runner, config.output, emit, stop.is_set))
            if len(in_progress) > 1 or (config.concurrent > 1 and has_failed):
                for job in in_progress:
                    job.ran_concurrently = True
        for job in list(in_progress):
            if job.take_turn():
                in_progress.remove(job)


def worker_name(pid: int) -> str:
    """The name of the output file of a worker; it has what is printed outside jobs."""
    return f"worker {pid}"


def _print_to(path: Path) -> None:
    """Send what this process prints to a file, also the stack of every thread if a signal kills it."""
    file = create_output_file(path)
    flush_output()
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(line_buffering=True)  # what is in a buffer is lost with a process that is killed
    faulthandler.enable(2)


def _exit_if_broken(device: torch.device) -> None:
    """Exit if the device is unusable: after one illegal memory access every later operation on it fails."""
    if device.type == "cuda":
        try:
            torch.cuda.synchronize(device)
        except Exception:
            os._exit(DEVICE_IS_BROKEN)


def _lead_own_group() -> None:
    """On Linux, lead a process group, which the driver kills as a whole, and die with the server that forked this.

    The server dies with the driver. The kernel then kills this process also where native code never returns.
    """
    if sys.platform == "linux":
        os.setpgid(0, 0)
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _exit_with_the_driver() -> None:
    """Exit as soon as the driver dies or forgets this process, also in the middle of a job."""
    driver = parent_process()
    assert driver is not None

    def wait() -> None:
        connection.wait([driver.sentinel])
        os._exit(1)

    threading.Thread(target=wait, name="aebench-driver-watch", daemon=True).start()


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """A started process does not get the SIGINT that a terminal sends to the whole group, not even while it starts."""
    if sys.platform == "win32":
        yield
        return
    resource_tracker.ensure_running()  # it would be started meanwhile, which unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # which processes inherit
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _worker_environment() -> Iterator[None]:
    """The environment in which a started process uses one thread in every numerical library.

    Results then do not depend on how many processes share the cores. Python's resource tracker, which starts with the
    server, says nothing about what a killed worker could not clean up.
    """
    before = {name: os.environ.get(name) for name in (*THREAD_VARIABLES, "PYTHONWARNINGS")}
    ignored = "ignore::UserWarning:multiprocessing.resource_tracker"
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    os.environ["PYTHONWARNINGS"] = ",".join(filter(None, (before["PYTHONWARNINGS"], ignored)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
