"""Writes docs/hooks.md from the docstrings of the hooks and of `aebench.contracts`: `python docs/generate.py`."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aebench import contracts, hookspecs
from aebench.registry.guard import DEFAULT_SECONDS, SECONDS_VARIABLE
from aebench.registry.loading import ENTRY_POINT_GROUP, LOAD_PLUGINS_VARIABLE, RECORD_OF_HOOK
from aebench.registry.records import PluginFailure
from aebench.testing import autoencoders, backbones, datasets, samplers, tasks

TARGET = Path(__file__).with_name("hooks.md")


def hooks_page() -> str:
    """The whole page."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield "# Hooks and records"
    yield ""
    yield "Generated from the docstrings by `python docs/generate.py`; a test checks that this page is up to date."
    yield ""
    yield f"A plugin is a module named by an entry point in the group `{ENTRY_POINT_GROUP}`. It implements one or more"
    yield "of these hooks, each marked with `aebench.contracts.hookimpl`. A hook only returns records."
    yield "The dependency of its distribution says which versions of aebench it works with: `aebench>=0.2,<0.3`."
    yield ""
    yield "## Hooks"
    for hook, record in RECORD_OF_HOOK.items():
        yield ""
        yield f"### `{hook}() -> list[{record.__name__}]`"
        yield ""
        yield inspect.getdoc(getattr(hookspecs, hook)) or ""
    yield ""
    yield "## Loading"
    yield ""
    yield f"`{LOAD_PLUGINS_VARIABLE}` selects the plugins that are loaded: all if it is unset, none if it is empty,"
    yield "else those of a comma-separated list of distributions."
    yield f"`{SECONDS_VARIABLE}` is the number of seconds that a plugin may take at each stage; the default is"
    yield f"{DEFAULT_SECONDS:g}."
    yield ""
    yield from _described(PluginFailure)
    yield ""
    yield "## Contracts"
    for name in sorted(contracts.__all__):
        thing = getattr(contracts, name)
        if inspect.isclass(thing):
            yield ""
            yield from _described(thing)
            yield from _methods(thing)
        elif inspect.isfunction(thing):
            yield ""
            yield f"### `{name}{_signature(thing)}`"
            yield ""
            yield from _docstring(thing)
    yield ""
    yield "## What `aebench check` checks"
    kinds = {
        "Models": autoencoders,
        "Tasks": tasks,
        "Data sets": datasets,
        "Backbones": backbones,
        "Samplers": samplers,
    }
    for title, module in kinds.items():
        yield ""
        yield f"### {title}"
        yield ""
        for check in module.CHECKS:
            yield f"- `{check.name}`: {check.title}."


def _described(thing: type) -> Iterator[str]:
    yield f"### `{thing.__name__}`"
    yield ""
    yield from _docstring(thing)


def _docstring(thing: Any) -> Iterator[str]:
    """A docstring as Markdown; its sections become lists."""
    text = inspect.getdoc(thing) or ""
    if dataclasses.is_dataclass(thing) and text.startswith(f"{getattr(thing, '__name__', '')}("):
        return
    for line in text.splitlines():
        heading = re.fullmatch(r"(Args|Attributes|Returns|Raises):", line)
        item = re.fullmatch(r"    (\w[\w, ]*): (.*)", line)
        if heading:
            yield f"{heading[1]}:"
            yield ""
        elif item:
            yield f"- `{item[1]}`: {item[2]}"
        elif line.startswith("        "):
            yield f"  {line.strip()}"
        else:
            yield line


def _methods(thing: type) -> Iterator[str]:
    """The public methods that a class itself defines, each with the first paragraph of its docstring."""
    found = {
        name: member
        for name, member in vars(thing).items()
        if not name.startswith("_") and inspect.isfunction(member) and member.__doc__
    }
    if found and thing.__module__.startswith("aebench."):
        yield ""
        for name, method in found.items():
            first = (inspect.getdoc(method) or "").partition("\n\n")[0].replace("\n", " ")
            yield f"- `{name}{_signature(method)}`: {first}"


def _signature(method: Any) -> str:
    return re.sub(r"\(self(, )?", "(", str(inspect.signature(method))).replace("'", "")


if __name__ == "__main__":
    TARGET.write_text(hooks_page(), "utf-8")
