"""What a plugin finds around it and has to leave as it was: random generators, standard output, files, figures."""

from __future__ import annotations

import contextlib
import io
import os
import random
import sys
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import numpy as np
import torch

from aebench.contracts import ImageDataset, Split
from aebench.datasets import load_dataset
from aebench.evaluation.reference_classifier import ConvolutionalClassifier, train_reference_classifier
from aebench.planning.seeds import splits_seed
from aebench.registry.loading import create_registry
from aebench.testing.checks import expect

SUITE_SEED = 42
UNUSUAL_SEED = 970_224_361
SMALL = (300, 80, 150)  # train, validation and test images of the digits that checks run on


@contextlib.contextmanager
def unchanged_randomness(what: str) -> Iterator[None]:
    """Fails when the block draws from, or seeds, a global generator of Python, NumPy or PyTorch."""

    def states() -> dict[str, object]:
        name, keys, *rest = np.random.get_state(legacy=True)  # noqa: NPY002
        return {
            "torch": torch.get_rng_state().numpy().tobytes(),
            "numpy": (name, np.asarray(keys).tobytes(), *rest),
            "random": random.getstate(),
        }

    # From a state that no plugin brings about, so that seeding shows as well as drawing.
    with scrambled_randomness(UNUSUAL_SEED):
        before = states()
        yield
        after = states()
    for library in before:
        expect(
            before[library] == after[library],
            "randomness from the generator that is passed in",
            f"{what} changed the state of {library}'s global generator",
        )


@contextlib.contextmanager
def scrambled_randomness(seed: int) -> Iterator[None]:
    """Inside, the global generators are seeded with `seed`; afterwards they are as before."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        try:
            yield
        finally:
            random.setstate(python)
            np.random.set_state(numpy)  # noqa: NPY002


@contextlib.contextmanager
def nothing_left_behind(what: str) -> Iterator[None]:
    """Fails when the block prints, leaves a file in the working or temporary directory, or opens a pyplot figure."""
    figures = _open_figures()
    output = io.StringIO()
    working, temporary = os.getcwd(), tempfile.tempdir
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(output):
        here, there = Path(folder, "working"), Path(folder, "temporary")
        here.mkdir()
        there.mkdir()
        tempfile.tempdir = str(there)
        os.chdir(here)
        try:
            yield
        finally:
            os.chdir(working)
            tempfile.tempdir = temporary
        written = sorted(path.name for root in (here, there) for path in root.rglob("*"))
    expect(not written, "no files", f"{what} wrote {', '.join(written)}")
    expect(not output.getvalue(), "nothing on stdout", f"{what} printed {output.getvalue()[:80]!r}")
    left = _open_figures() - figures
    expect(not left, "figures made without pyplot", f"{what} left {len(left)} pyplot figures open")


def _open_figures() -> set[int]:
    pyplot = sys.modules.get("matplotlib.pyplot")
    return set(pyplot.get_fignums()) if pyplot else set()


@cache
def small_reference_classifier() -> ConvolutionalClassifier:
    """A reference classifier of the small digits: quickly trained, and good enough to be asked."""
    return train_reference_classifier(small_digits(), steps=200)


@cache
def small_digits() -> ImageDataset:
    """The first digits of each split: enough for every task, little enough to train on in a second."""
    record = create_registry().dataset("digits").record
    data = load_dataset(record, record.params(), Path(), splits_seed(SUITE_SEED))

    def first(split: Split, n: int) -> Split:
        return Split(split.images[:n], None if split.labels is None else split.labels[:n])

    cut = (first(split, n) for split, n in zip((data.train, data.validation, data.test), SMALL, strict=True))
    return ImageDataset(data.name, data.title, data.classes, data.batch_size, *cut)
