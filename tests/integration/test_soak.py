"""A short soak: runs that are killed at random moments lose nothing and do nothing twice."""

import subprocess
import sys

from .conftest import ROOT, environment


def test_runs_that_are_killed_lose_nothing_and_do_nothing_twice(tmp_path):
    command = [sys.executable, "-m", "tests.soak", "--kills", "10", "--workers", "1", "--seed", "1"]
    done = subprocess.run(
        [*command, "--folder", tmp_path], cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "10 kills in" in done.stdout
    assert "0 losses, 0 doubles, 0 other violations" in done.stdout
