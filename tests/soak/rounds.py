"""One round of the soak: the same command, killed and started again in one folder until it ends by itself."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.soak import observing
from tests.soak.observing import Cell, Matrix

CONFIG = """
models: [plain, noisy]
tasks: [count, again, rotated]
training: {epochs: 40}
profiles: {anomaly: {latent_dim: 2, held_out: [1, 2]}}
"""
COMMAND = [
    str(Path(sys.executable).with_name("aebench")),
    "run",
    "--device",
    "cpu",
    "--jobs",
    "2",
    "--checkpoint-every",
    "1",
]
STOPPING_SECONDS = 120.0  # within which a run that is told to stop has ended
KILLS = ("SIGKILL of the driver", "SIGKILL of the group", "SIGTERM", "SIGINT", "SIGINT twice")
WORKER = "SIGKILL of a worker"
WORKERS_PER_RUN = 6  # that are killed at most
SECONDS_BETWEEN_WORKERS = 1.5  # at most
EMPTY = ("runs", "checkpoints")  # folders of the work folder
MAY_STAY = ("mlruns", "mlflow.db")  # of the store
CODES = {"SIGTERM": 143, "SIGINT": 130, "SIGINT twice": 130}


@dataclass
class Tally:
    """Kills by kind, whole rounds, cells that were lost or done twice, and every other violation, in one line each."""

    kills: Counter[str] = field(default_factory=Counter)
    rounds: int = 0
    losses: list[str] = field(default_factory=list)
    doubles: list[str] = field(default_factory=list)
    others: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        return sum(self.kills.values())

    def add(self, more: Tally) -> None:
        self.kills += more.kills
        self.rounds += more.rounds
        self.losses += more.losses
        self.doubles += more.doubles
        self.others += more.others

    def violations(self) -> list[str]:
        return [*self.losses, *self.doubles, *self.others]

    def line(self) -> str:
        return (
            f"{self.total} kills in {self.rounds} rounds, {len(self.losses)} losses, {len(self.doubles)} doubles, "
            f"{len(self.others)} other violations"
        )


class Home:
    """A folder in which aebench is run, with its store, temporary files, work folder and the log of evaluations."""

    def __init__(self, folder: Path, site: Path) -> None:
        self.folder, self.temporary, self.work = folder, folder / "tmp", folder / "work"
        self.evaluations = folder / "evaluations"
        for path in (folder / "home", self.temporary, self.work, folder / "data"):
            path.mkdir(parents=True)
        self.evaluations.touch()
        (folder / "bench.yaml").write_text(CONFIG)
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW", "AEBENCH"))}
        self._environment = kept | {
            "PYTHONPATH": os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(site)])),
            "AEBENCH_LOAD_PLUGINS": "aebench-soak",
            "AEBENCH_SOAK_LOG": str(self.evaluations),
            "AEBENCH_DATA_DIR": str(folder / "data"),
            "AEBENCH_WORK_DIR": str(self.work),
            "TMPDIR": str(self.temporary),
        }

    def start(self) -> subprocess.Popen[bytes]:
        """Start the program as the leader of a session."""
        with (self.folder / "stdout").open("wb") as out, (self.folder / "stderr").open("wb") as err:
            return subprocess.Popen(
                [*COMMAND, "--config", str(self.folder / "bench.yaml")],
                cwd=self.folder / "home",
                env=self._environment,
                stdout=out,
                stderr=err,
                start_new_session=True,
                # A shell that starts this in the background has SIGINT ignored, and children inherit that.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )

    def stderr(self) -> str:
        return (self.folder / "stderr").read_text(errors="replace")

    def store(self) -> Matrix:
        return observing.read_store(self.folder / "home" / "mlflow.db")

    def evaluated(self) -> list[Cell]:
        return self.evaluations.read_text().splitlines()


@dataclass(frozen=True)
class Expected:
    """The store after a run that nothing disturbed.

    Attributes:
        matrix: what the store holds.
        seconds: that the run took.
        seconds_without_work: that the same command takes when every cell is in the store.
    """

    matrix: Matrix
    seconds: float
    seconds_without_work: float

    def seconds_after(self, finished: int) -> float:
        """About how long a run takes when this number of cells is finished."""
        share = 1 - finished / len(self.matrix.ok)
        return self.seconds_without_work + share * (self.seconds - self.seconds_without_work)


def undisturbed(home: Home) -> Expected:
    """Run the matrix without a kill, and again when there is nothing to do."""
    seconds = []
    for _ in range(2):
        started = time.monotonic()
        code = home.start().wait()
        if code:
            raise SystemExit(f"the undisturbed run ended with {code}: {home.stderr()}")
        seconds.append(time.monotonic() - started)
    return Expected(home.store(), *seconds)


class Round:
    """Runs, kills and checks in one folder; kills no more after `kills` or at `end` of the monotonic clock."""

    def __init__(self, home: Home, seed: str, expected: Expected, kills: int, end: float) -> None:
        self._home, self._seed, self._expected = home, seed, expected
        self._kills, self._end = kills, end
        self._chance = random.Random(seed)
        self._finished: dict[Cell, int] = {}  # number of evaluations that had begun when the cell was seen finished
        self._tally = Tally(rounds=1)

    def run(self) -> Tally:
        while True:
            process = self._home.start()
            kind, has_begun = self._disturb(process)
            code = self._wait(process, kind)
            if alive := observing.survivors(self._home.work):
                self._violation(kind, f"still alive after {observing.LIFE_SECONDS:g} s: {', '.join(alive)}")
            if "Traceback" in self._home.stderr() and has_begun and not kind.startswith("SIGKILL"):
                self._violation(kind, f"a traceback: {self._home.stderr()}")
            if code == 0:
                self._check()
                return self._tally
            if kind in CODES and has_begun and code != CODES[kind]:
                self._violation(kind, f"exit code {code}, not {CODES[kind]}: {self._home.stderr()}")
            if not kind and not (code == 1 and self._killed_workers > 1):
                self._violation(kind, f"ended with {code}: {self._home.stderr()}")
                return self._tally
            self._note_finished()

    def _disturb(self, process: subprocess.Popen[bytes]) -> tuple[str, bool]:
        """Kill workers at random moments, then the run; return how, and whether aebench had taken over the signals.

        A run that ends by itself gives an empty name. A job that loses two workers fails; the next run does it again.
        """
        kind, self._killed_workers = self._chance.choice(KILLS), 0
        moment = time.monotonic() + self._chance.uniform(0, 1.1 * self._expected.seconds_after(len(self._finished)))
        while (left := moment - time.monotonic()) > 0:
            if _ends_within(process, min(left, self._chance.uniform(0, SECONDS_BETWEEN_WORKERS))):
                return "", True
            workers = observing.workers(process.pid)
            if workers and self._killed_workers < WORKERS_PER_RUN and self._goes_on():
                self._chance.choice(workers).kill()
                self._tally.kills[WORKER] += 1
                self._killed_workers += 1
        if not self._goes_on():
            return "", True
        has_begun = observing.handles(process.pid, signal.SIGTERM)
        self._kill(process, kind)
        self._tally.kills[kind] += 1
        return kind, has_begun

    def _goes_on(self) -> bool:
        """Whether there are more kills to do, and the time is not over."""
        return self._tally.total < self._kills and time.monotonic() < self._end

    def _kill(self, process: subprocess.Popen[bytes], kind: str) -> None:
        if kind == "SIGKILL of the group":
            os.killpg(process.pid, signal.SIGKILL)
        elif kind.startswith("SIGINT"):  # a terminal sends it to the whole group
            os.killpg(process.pid, signal.SIGINT)
            if kind == "SIGINT twice" and not _ends_within(process, self._chance.uniform(0, 1)):
                os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGTERM if kind == "SIGTERM" else signal.SIGKILL)

    def _wait(self, process: subprocess.Popen[bytes], kind: str) -> int:
        """The exit code; a run that hangs is killed."""
        seconds = STOPPING_SECONDS + (0 if kind else 10 * self._expected.seconds)
        if not _ends_within(process, seconds):
            self._violation(kind, f"hangs for {seconds:.0f} s: {self._home.stderr()}")
            os.killpg(process.pid, signal.SIGKILL)
        return process.wait()

    def _note_finished(self) -> None:
        """Note which cells are finished: those that the store or a journal has as ok."""
        finished = self._home.store().finished | observing.journaled(self._home.work, self._expected.matrix.hashes)
        begun = len(self._home.evaluated())
        for cell in finished:
            self._finished.setdefault(cell, begun)

    def _check(self) -> None:
        """Check everything after a run that ended by itself."""
        expected, found, evaluated = self._expected.matrix, self._home.store(), self._home.evaluated()
        lose, double = self._tally.losses.append, self._tally.doubles.append
        for cell in expected.ok:
            if not found.ok[cell]:
                lose(f"round {self._seed}: {cell} is missing")
            if found.ok[cell] > 1:
                double(f"round {self._seed}: {cell} is there {found.ok[cell]} times")
        for name in sorted(expected.metrics.keys() | found.metrics.keys()):
            if expected.metrics.get(name) != found.metrics.get(name):
                lose(f"round {self._seed}: {name} is {found.metrics.get(name)}, not {expected.metrics.get(name)}")
        for cell, begun in self._finished.items():
            if again := evaluated[begun:].count(cell):
                double(f"round {self._seed}: {cell} was finished and evaluated {again} times more")
        if found.running:
            self._violation("", f"RUNNING: {', '.join(found.running)}")
        if found.integrity != "ok":
            self._violation("", f"pragma integrity_check: {found.integrity}")
        for folder in (self._home.temporary, self._home.work, self._home.folder / "home"):
            left = [
                path for path in observing.left_below(folder) if path not in EMPTY and not path.startswith(MAY_STAY)
            ]
            if left:
                self._violation("", f"left in {folder.name}: {', '.join(left[:5])}")

    def _violation(self, kind: str, message: str) -> None:
        self._tally.others.append(f"round {self._seed}, {kind or 'not killed'}: {' '.join(message.split())[-2000:]}")


def _ends_within(process: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
