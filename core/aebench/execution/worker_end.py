"""Ends worker processes, with the processes that plugins started in them, and says why a worker died."""

from __future__ import annotations

import signal
import sys

from aebench.execution.guardian import kill_group
from aebench.execution.worker import DEVICE_IS_BROKEN, WorkerProcess

GRACE_SECONDS = 5.0  # for a process to end after it is told to


def kill(process: WorkerProcess) -> None:
    """Kill a worker; on Linux also all processes of the group that it leads."""
    if sys.platform == "linux" and process.pid is not None:
        kill_group(process.pid)
    process.kill()


def wait_for_exit(process: WorkerProcess) -> None:
    """Wait for a worker to end; kill it if a thread of a plugin keeps it alive, and what it has started."""
    process.join(GRACE_SECONDS)
    kill(process)
    process.join()


def death_of(process: WorkerProcess) -> str:
    """Why a worker process died, in one line."""
    code = process.exitcode
    reason = f"exit code {code}"
    if code == DEVICE_IS_BROKEN:
        reason = "the CUDA device became unusable"
    elif code is not None and code < 0:
        name = signal.Signals(-code).name
        reason = f"{name}, perhaps out of memory" if name == "SIGKILL" else name
    return f"the worker process died ({reason})"
