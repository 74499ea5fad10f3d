"""Identifies this process, and finds out whether the process of an identity is still running."""

from __future__ import annotations

import socket

import psutil


def this_process() -> str:
    """Host, process id and start time, which tells it from a later process with the same id."""
    process = psutil.Process()
    return f"{socket.gethostname()}:{process.pid}:{process.create_time():.2f}"


def is_alive(identity: str | None) -> bool:
    """Whether the process of this identity is still running; one on another host is taken to be."""
    if identity is None:
        return True
    host, pid, started = identity.rsplit(":", 2)
    if host != socket.gethostname():
        return True
    try:
        return f"{psutil.Process(int(pid)).create_time():.2f}" == started
    except psutil.Error:
        return False
