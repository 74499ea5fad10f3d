"""Registers the models of pythae that train in pure steps, and says why the others cannot be run."""

from __future__ import annotations

from aebench.contracts import AutoencoderRecord, UnavailableRecord, hookimpl
from aebench_pythae.table import MODELS, UNAVAILABLE


@hookimpl
def aebench_autoencoders() -> list[AutoencoderRecord]:
    return [row.record() for row in MODELS]


@hookimpl
def aebench_unavailable() -> list[UnavailableRecord]:
    return list(UNAVAILABLE)
