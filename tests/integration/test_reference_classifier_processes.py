"""Processes that need the same reference classifier at the same time, and one that is killed while it trains."""

import os
import signal
import subprocess
import sys

OBTAIN = """
import sys, time
from pathlib import Path
import torch
from aebench.evaluation.reference_classifier import obtain_reference_classifier
from aebench.testing.small_digits import small_digits
def on_training():
    print("training", flush=True)
    time.sleep(float(sys.argv[2]))
cpu = torch.device("cpu")
print(obtain_reference_classifier(small_digits(), cpu, Path(sys.argv[1]), "", on_training).accuracy)
"""


def _start(folder, seconds=0):
    command = [sys.executable, "-c", OBTAIN, folder, str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_it_is_trained_once_also_if_the_first_process_is_killed(tmp_path):
    first = _start(tmp_path, seconds=600)
    assert first.stdout.readline() == "training\n"  # it holds the lock from now on
    others = [_start(tmp_path) for _ in range(2)]
    os.kill(first.pid, signal.SIGKILL)
    first.communicate()
    printed = [process.communicate()[0].split() for process in others]
    assert [process.returncode for process in others] == [0, 0]
    assert sorted(len(words) for words in printed) == [1, 2]  # the accuracy, and "training" once
    assert printed[0][-1] == printed[1][-1]
    assert not list(tmp_path.rglob("*.part"))
