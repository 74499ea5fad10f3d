"""The hooks a plugin implements; each only registers and does no work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from aebench.contracts.records import AutoencoderRecord, DatasetRecord, TaskRecord

PROJECT = "aebench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def aebench_autoencoders() -> list[AutoencoderRecord]:
    """Return the autoencoders this plugin brings."""
    return []


@hookspec
def aebench_tasks() -> list[TaskRecord]:
    """Return the tasks this plugin brings."""
    return []


@hookspec
def aebench_datasets() -> list[DatasetRecord]:
    """Return the data sets this plugin brings."""
    return []
