"""Kills `aebench run` at random moments until every cell is there, checks the store, and begins again.

python -m tests.soak [--kills 1000] [--workers 2] [--seconds N] [--seed 0] [--folder FOLDER]

Prints kills, losses and doubles; the exit code is 1 if anything is not as it must be.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.soak.rounds import Home, Round, Tally, undisturbed

PLUGIN = Path(__file__).parent / "plugin" / "aebench_soak.py"


def install_plugin(site: Path) -> Path:
    """Make the soak's plugin count as installed for a process that has `site` on its path."""
    info = site / "aebench_soak-1.0.dist-info"
    info.mkdir(parents=True)
    shutil.copy(PLUGIN, site)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: aebench-soak\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[aebench]\nsoak = aebench_soak\n")
    return site


def soak(folder: Path, seed: str, kills: int, seconds: float) -> Tally:
    """Round after round until there were so many kills, or the time is over; folders of clean rounds are removed."""
    site = install_plugin(folder / "site")
    expected = undisturbed(Home(folder / "undisturbed", site))
    end = time.monotonic() + seconds
    tally = Tally()
    while tally.total < kills and time.monotonic() < end:
        home = Home(folder / f"round {tally.rounds}", site)
        found = Round(home, f"{seed}/{tally.rounds}", expected, kills - tally.total, end).run()
        tally.add(found)
        print(f"round {seed}/{tally.rounds - 1}: {found.total} kills; in all {tally.line()}", flush=True)
        for violation in found.violations():
            print(f"    {violation}", flush=True)
        if not found.violations():
            shutil.rmtree(home.folder)
    return tally


def shares(total: int, parts: int) -> Iterator[int]:
    """`total` in whole parts that are as equal as possible."""
    return (total // parts + (part < total % parts) for part in range(parts))


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=1000, help="how often to kill")
    parser.add_argument("--workers", type=int, default=2, help="soaks side by side, each in folders of its own")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="kill no more after this time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the kinds of kills")
    parser.add_argument("--folder", type=Path, help="keep folders with violations here  [default: a temporary folder]")
    given = parser.parse_args()
    started = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="aebench-soak-", dir=given.folder))
    tally = Tally()
    with ProcessPoolExecutor(given.workers) as pool:
        arguments = [
            (folder / str(worker), f"{given.seed}.{worker}", kills, given.seconds)
            for worker, kills in enumerate(shares(given.kills, given.workers))
        ]
        for found in pool.map(soak, *zip(*arguments, strict=True)):
            tally.add(found)
    violations = tally.violations()
    for violation in violations:
        print(violation)
    print(", ".join(f"{count} {kind}" for kind, count in sorted(tally.kills.items())))
    print(f"{tally.line()}; {time.monotonic() - started:.0f} s")
    if violations:
        print(f"the folders of these rounds are kept in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
