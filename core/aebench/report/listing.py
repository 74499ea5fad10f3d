"""Lists what the installed plugins register, as JSON values and as tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from pydantic import BaseModel
from pydantic_core import to_jsonable_python
from rich.table import Table

from aebench.registry.records import Registered, Registry

COLUMNS = {
    "models": ("name", "title", "summary", "capabilities", "distribution", "version"),
    "tasks": ("name", "title", "profile", "requires", "metrics", "distribution", "version"),
    "datasets": ("name", "title", "summary", "distribution", "version"),
    "backbones": ("name", "title", "summary", "distribution", "version"),
    "samplers": ("name", "title", "summary", "requires", "distribution", "version"),
    "studies": ("name", "title", "summary", "distribution", "version"),
    "unavailable": ("name", "title", "reason", "distribution", "version"),
    "failures": ("distribution", "version", "entry_point", "stage", "message"),
}


def describe_registry(registry: Registry) -> dict[str, list[dict[str, Any]]]:
    """Everything in a registry as JSON values, by kind."""
    return {
        "models": [
            _common(plugin)
            | {
                "capabilities": sorted(plugin.record.capabilities),
                "own_networks": plugin.record.own_networks,
                "baseline": plugin.record.baseline,
            }
            for plugin in registry.autoencoders.values()
        ],
        "tasks": [
            _common(plugin)
            | {
                "profile": plugin.record.profile,
                "requires": sorted(plugin.record.requires),
                "metrics": [asdict(metric) for metric in plugin.record.metrics],
            }
            for plugin in registry.tasks.values()
        ],
        "datasets": [
            _common(plugin) | {"batch_size": plugin.record.batch_size} for plugin in registry.datasets.values()
        ],
        "backbones": [
            _common(plugin) | {"smallest_side": plugin.record.smallest_side} for plugin in registry.backbones.values()
        ],
        "samplers": [
            _common(plugin) | {"requires": sorted(plugin.record.requires)} for plugin in registry.samplers.values()
        ],
        "studies": [
            _common(plugin) | {"claims": {claim.name: claim.text for claim in plugin.record.claims}}
            for plugin in registry.studies.values()
        ],
        "unavailable": [
            plugin.record.model_dump() | {"distribution": plugin.distribution, "version": plugin.version}
            for plugin in registry.unavailable.values()
        ],
        "failures": [asdict(failure) for failure in registry.failures],
    }


def as_tables(description: Mapping[str, Sequence[Mapping[str, Any]]]) -> Iterator[Table]:
    """One table for each kind that has entries."""
    for kind, entries in description.items():
        if entries:
            table = Table(title=kind, title_justify="left", title_style="bold", header_style="bold")
            for column in COLUMNS[kind]:
                table.add_column(column, overflow="fold")
            for entry in entries:
                table.add_row(*(_text(entry[column]) for column in COLUMNS[kind]))
            yield table


def _common(plugin: Registered[Any]) -> dict[str, Any]:
    record = plugin.record
    return {
        "name": record.name,
        "title": record.title,
        "summary": record.summary,
        "source": record.source,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "params": _defaults(record.params),
    }


def _defaults(params: type[BaseModel]) -> dict[str, Any]:
    """The default of each parameter; None for a required one."""
    return {
        name: None if field.is_required() else to_jsonable_python(field.get_default(), fallback=str)
        for name, field in params.model_fields.items()
    }


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(item["name"] if isinstance(item, dict) else str(item) for item in value)
    return str(value)
