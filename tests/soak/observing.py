"""What the soak sees from outside: processes by session, the store as SQLite, journals, and files left behind."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import psutil

Cell = str  # "<model> <key of the cell>", such as "noisy rotated.without_1"
LIFE_SECONDS = 5.0  # that a process may live longer than the driver


@dataclass(frozen=True)
class Matrix:
    """The newest matrix of a store, and the state of the store.

    Attributes:
        metrics: by cell or model, and name; times and training curves are left out.
        ok: how often each cell is ok in the newest matrix.
        finished: cells that are ok anywhere in the store.
        hashes: content hash of each cell.
        running: names of the runs that are RUNNING.
        integrity: what `pragma integrity_check` says.
    """

    metrics: dict[str, float] = field(default_factory=dict)
    ok: Counter[Cell] = field(default_factory=Counter)
    finished: frozenset[Cell] = frozenset()
    hashes: dict[Cell, str] = field(default_factory=dict)
    running: tuple[str, ...] = ()
    integrity: str = "ok"


def read_store(database: Path) -> Matrix:
    """Read a copy of the store, which SQLite may repair; an empty matrix if it has no tables yet."""
    with tempfile.TemporaryDirectory() as folder:
        for file in database.parent.glob(f"{database.name}*"):  # with the journals of SQLite
            shutil.copy(file, folder)
        connection = sqlite3.connect(Path(folder) / database.name)
        try:
            return _read(connection)
        finally:
            connection.close()


def _read(connection: sqlite3.Connection) -> Matrix:
    integrity = connection.execute("pragma integrity_check").fetchone()[0]
    tables = {name for (name,) in connection.execute("select name from sqlite_master")}
    if not {"runs", "tags", "latest_metrics"} <= tables:
        return Matrix(integrity=integrity)
    tags: dict[str, dict[str, str]] = {}
    for run, key, value in connection.execute("select run_uuid, key, value from tags"):
        tags.setdefault(run, {})[key] = value
    runs = connection.execute("select run_uuid, name, status from runs order by start_time").fetchall()
    matrices = [run for run, *_ in runs if tags.get(run, {}).get("aebench.kind") == "matrix"]
    metrics, ok, hashes = {}, Counter[Cell](), {}
    finished: set[Cell] = set()
    for run, of_run in tags.items():
        is_newest = bool(matrices) and of_run.get("mlflow.parentRunId") == matrices[-1]
        for key, value in of_run.items():
            if key.startswith("cell.") and key.endswith(".status") and value == "ok":
                cell = f"{of_run['model']} {key[len('cell.') : -len('.status')]}"
                finished.add(cell)
                hashes[cell] = of_run[key.removesuffix("status") + "hash"]
                ok[cell] += is_newest
        if is_newest:
            query = "select key, value from latest_metrics where run_uuid = ?"
            found = connection.execute(query, (run,)).fetchall()
            metrics |= {f"{of_run['model']} {key}": value for key, value in found if key[:5] not in ("time.", "train")}
    running = tuple(name for _, name, status in runs if status == "RUNNING")
    return Matrix(metrics, ok, frozenset(finished), hashes, running, integrity)


def journaled(work: Path, hashes: dict[Cell, str]) -> frozenset[Cell]:
    """The cells whose success stands in a journal: a whole line with the cell's hash and `"ok"`."""
    found: set[Cell] = set()
    for journal in work.glob("runs/*/journal*"):
        files = [file for file in journal.rglob("*") if file.is_file()] if journal.is_dir() else [journal]
        for file in files:
            for line in file.read_bytes().split(b"\n")[:-1]:
                found |= {cell for cell, hash in hashes.items() if hash.encode() in line and b'"ok"' in line}
    return frozenset(found)


def processes_of(work: Path) -> Iterator[psutil.Process]:
    """The processes that are alive and have this work folder in their environment, whatever their session."""
    for process in psutil.process_iter():
        try:
            if process.environ().get("AEBENCH_WORK_DIR") == str(work) and process.status() != psutil.STATUS_ZOMBIE:
                yield process
        except (psutil.Error, ProcessLookupError, OSError):
            continue


def workers(leader: int) -> list[psutil.Process]:
    """Worker processes of a driver: the children of its forkserver."""
    try:
        helpers = psutil.Process(leader).children()
        return [process for helper in helpers for process in helper.children()]
    except psutil.Error:
        return []


def survivors(work: Path) -> list[str]:
    """The processes with this work folder in their environment that live longer than they may, killed now."""
    end = time.monotonic() + LIFE_SECONDS
    while (alive := list(processes_of(work))) and time.monotonic() < end:
        time.sleep(0.05)
    for process in alive:
        process.kill()
    return [f"{process.pid} {' '.join(process.cmdline()[-2:])[:80]}" for process in alive if process.is_running()]


def handles(pid: int, signum: signal.Signals) -> bool:
    """Whether a process has set a handler of its own for a signal; Python sets one for SIGINT before aebench runs."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return True
    caught = next(int(line.split()[1], 16) for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(caught >> (signum - 1) & 1)


def left_below(folder: Path) -> list[str]:
    """Files and folders that are not lock files."""
    paths = (path for path in folder.rglob("*") if path.name not in ("lock", ".lock"))
    return sorted(str(path.relative_to(folder)) for path in paths)
