"""The hooks that a plugin implements. A hook returns records and does no other work."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from aebench.contracts.backbones import BackboneRecord
    from aebench.contracts.records import (
        AutoencoderRecord,
        DatasetRecord,
        SamplerRecord,
        StudyRecord,
        TaskRecord,
        UnavailableRecord,
    )

PROJECT = "aebench"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def aebench_autoencoders() -> list[AutoencoderRecord]:
    """Return the autoencoders of this plugin."""
    return []


@hookspec
def aebench_tasks() -> list[TaskRecord]:
    """Return the tasks of this plugin."""
    return []


@hookspec
def aebench_datasets() -> list[DatasetRecord]:
    """Return the data sets of this plugin."""
    return []


@hookspec
def aebench_backbones() -> list[BackboneRecord]:
    """Return the backbones of this plugin, on each of which every model can be built."""
    return []


@hookspec
def aebench_samplers() -> list[SamplerRecord]:
    """Return the samplers of this plugin, each of which draws images from any trained model."""
    return []


@hookspec
def aebench_studies() -> list[StudyRecord]:
    """Return the published studies of this plugin, for `aebench compare`."""
    return []


@hookspec
def aebench_unavailable() -> list[UnavailableRecord]:
    """Return the models that this plugin could be expected to have, but that aebench cannot run."""
    return []
