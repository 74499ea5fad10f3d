"""Start-up: seconds from the start of a command to its end."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.measuring import Spread

AEBENCH = Path(sys.executable).with_name("aebench")
COMMANDS = (("--help",), ("list",))


def store_in(folder: Path) -> str:
    """The tracking URI of a store in this folder."""
    return f"sqlite:///{folder / 'mlflow.db'}"


def run_command(folder: Path, *options: object) -> list[str]:
    """The command `aebench run` with these options and its store in this folder."""
    return [str(AEBENCH), "run", *map(str, options), "--tracking-uri", store_in(folder)]


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds that each command takes, with a warm disk cache."""
    results = {}
    for command in COMMANDS:
        _seconds(command)  # fills the disk cache
    for command in COMMANDS:
        spread = Spread.of([_seconds(command) for _ in range(max(5, options.repeats))])
        print(f"aebench {' '.join(command):10} {spread} s")
        results[" ".join(command)] = asdict(spread)
    return results


def _seconds(command: tuple[str, ...]) -> float:
    started = time.perf_counter()
    subprocess.run([AEBENCH, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started
