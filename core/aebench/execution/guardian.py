"""A small process that outlives the driver by a moment and kills what is left of its workers.

Workers end by themselves when the driver dies, but the processes that plugins have started in them would not. This file
is also the program of that process, so it imports nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from typing import IO


class Guardian:
    """Knows the process groups of the workers; when the driver dies or closes it, those that remain are killed."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,  # whoever kills the driver's group does not kill this process
        )

    def add(self, group: int) -> None:
        """A worker has started and leads this group."""
        self._send(f"+{group}\n")

    def remove(self, group: int) -> None:
        """The group has been killed; its number may be that of others from now on."""
        self._send(f"-{group}\n")

    def close(self) -> None:
        """Kill the groups that remain, and end the process."""
        with contextlib.suppress(OSError):
            self._input.close()
        self._process.wait()

    def _send(self, line: str) -> None:
        with contextlib.suppress(OSError):  # somebody has killed it
            self._input.write(line.encode())
            self._input.flush()

    @property
    def _input(self) -> IO[bytes]:
        assert self._process.stdin is not None
        return self._process.stdin


def kill_group(group: int) -> None:
    """Kill all processes of a group, if there are any."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def guard(lines: Iterable[str]) -> None:
    """Keep account of groups until the input ends, then kill those that remain."""
    groups: set[int] = set()
    for line in lines:
        change = groups.add if line[0] == "+" else groups.discard
        change(int(line[1:]))
    for group in groups:
        kill_group(group)


if __name__ == "__main__":
    guard(sys.stdin)
