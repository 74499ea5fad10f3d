"""The hooks a plugin implements; each only registers and does no work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from aebench.contracts.records import AutoencoderRecord, DatasetRecord, StudyRecord, TaskRecord

PROJECT = "aebench"

# Version of everything in `aebench.contracts` and of these hooks; raised when a plugin written for the last one breaks.
# A plugin module declares the one it was written for: AEBENCH_CONTRACT = 1.
CONTRACT = 1

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


@hookspec
def aebench_studies() -> list[StudyRecord]:
    """Return the published studies this plugin brings, for `aebench compare`."""
    return []
