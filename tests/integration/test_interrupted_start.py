"""A terminal sends Ctrl-C to the whole group: it interrupts no process that is only starting to work."""

import os
import signal
import subprocess
import sys
import time

import psutil

from .conftest import environment

PROGRAM = """
import os, signal, sys
from pathlib import Path
signal.signal(signal.SIGINT, lambda signum, frame: None)
from aebench.execution.artifacts import Ref
from aebench.execution.worker import WorkerConfig, start_server, start_worker

if __name__ == "__main__":
    print("starts", flush=True)
    start_server()
    process, pipe = start_worker(WorkerConfig(Path(sys.argv[1]), Ref("0" * 64), "cpu", ()))
    print(type(pipe.recv()).__name__, flush=True)
    pipe.close()
    process.join()
    os._exit(0)  # while Python ends, it has no handler any more
"""


def test_a_worker_and_the_server_that_forks_it_start_despite_interrupts(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, tmp_path / "program.py", tmp_path],
        env=environment(AEBENCH_LOAD_PLUGINS=""),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout.readline() == "starts\n"
    while len(psutil.Process(process.pid).children()) < 2:  # the resource tracker and the server
        time.sleep(0.005)
    while process.poll() is None:
        os.killpg(process.pid, signal.SIGINT)
        time.sleep(0.05)
    assert process.communicate() == ("Ready\n", "")
    assert process.returncode == 0
