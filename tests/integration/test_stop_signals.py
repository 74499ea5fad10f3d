"""A signal ends the program with its exit code, also where a library swallows or changes the exception."""

import os
import signal
import subprocess
import sys

import pytest

from .conftest import environment

PROGRAM = """
import os, signal, sys, weakref
from aebench import cli

class Collected:
    pass

def send():
    os.kill(os.getpid(), getattr(signal, sys.argv[1]))

def interrupted_in_a_callback():
    referred = Collected()
    reference = weakref.ref(referred, lambda _: [send(), [0 for _ in range(1000)]])
    del referred
    for _ in range(10**9):
        pass
    return 0

def changed():
    try:
        for _ in range(10):
            send()
    except BaseException:
        raise RuntimeError("changed")

def swallowed_and_failed():
    try:
        send()
    except BaseException:
        return 2

def at_exit():
    import atexit
    atexit.register(send)
    return 0

cli.execute = globals()[sys.argv[2]]
cli.main()
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("where", ["interrupted_in_a_callback", "changed", "swallowed_and_failed", "at_exit"])
def test_a_signal_ends_the_program_wherever_it_arrives(name, code, where):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, name, where],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=60,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert (done.returncode, done.stderr) == (0 if where == "at_exit" else code, "")


def test_a_bug_keeps_its_traceback():
    program = "from aebench import cli\ncli.execute = lambda: 1 / 0\ncli.main()"
    done = subprocess.run([sys.executable, "-c", program], env=os.environ, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
