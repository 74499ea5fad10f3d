"""Side effects that the contract forbids: on global random generators, standard output, files and figures."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from aebench.registry.side_effects import ProcessState, random_states, restore_random_states
from aebench.testing.checks import expect

UNUSUAL_SEED = 970_224_361


@contextlib.contextmanager
def no_global_randomness(what: str) -> Iterator[None]:
    """Check that the block neither draws from nor seeds a global generator of Python, NumPy or PyTorch.

    Raises:
        Nonconformance: it does.
    """

    # No plugin seeds with this number, so seeding changes the state as much as drawing does.
    with seeded_global_generators(UNUSUAL_SEED):
        before = random_states()
        yield
        after = random_states()
    for library in before:
        expect(
            before[library] == after[library],
            "all randomness to come from the generator that is passed in",
            f"{what} changed the state of {library}'s global generator",
        )


@contextlib.contextmanager
def seeded_global_generators(seed: int) -> Iterator[None]:
    """Seed the global generators with `seed` for the block, and restore their state after it."""
    before = random_states()
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        restore_random_states(before)


@contextlib.contextmanager
def no_leftovers(what: str) -> Iterator[None]:
    """Check that the block prints nothing, writes no file, changes no global setting and leaves no pyplot figure open.

    Files are looked for in the working directory and in the temporary directory.

    Raises:
        Nonconformance: it does one of these.
    """
    figures = _open_figures()
    output = io.StringIO()
    working, temporary = os.getcwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(output):
        own_working, own_temporary = Path(folder, "working"), Path(folder, "temporary")
        own_working.mkdir()
        own_temporary.mkdir()
        tempfile.tempdir = str(own_temporary)
        os.chdir(own_working)
        state = ProcessState()
        changed: tuple[str, ...] = ()
        try:
            yield
        finally:
            changed = state.restore()
            os.chdir(working)
            tempfile.tempdir = temporary
        written = sorted(path.name for root in (own_working, own_temporary) for path in root.rglob("*"))
    expect(not changed, "the settings of the process to stay as they are", f"{what} changed {', '.join(changed)}")
    expect(not written, "no files", f"{what} wrote {', '.join(written)}")
    expect(not output.getvalue(), "nothing on stdout", f"{what} printed {output.getvalue()[:80]!r}")
    opened = _open_figures() - figures
    expect(not opened, "figures made without pyplot", f"{what} left {len(opened)} pyplot figures open")


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot else set()
