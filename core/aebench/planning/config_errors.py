"""Collects all mistakes in a configuration and describes each with its place."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from aebench.errors import Mistakes
from aebench.registry.records import did_you_mean

M = TypeVar("M", bound=BaseModel)
KeyPath = tuple[str, ...]
Location = tuple[str | int, ...]


class ConfigErrors:
    """The mistakes found so far; `raise_any` reports them all at once.

    Args:
        file: the YAML file of the configuration, or None.
        overrides: values that win over the file's, by key path; the last key is the option's name.
    """

    def __init__(self, file: Path | None, overrides: Mapping[KeyPath, Any]) -> None:
        self._file = file
        self._overrides = overrides
        self._lines: dict[str, None] = {}  # each once, in order

    def add(self, location: Location, message: str) -> None:
        """Note a mistake at `location`, once."""
        self._lines[f"{self._format_place(location)}: {message}"] = None

    def parse(self, model: type[M], value: Any, location: Location) -> M | None:
        """`value` as a `model`; None, with every mistake noted, where it is not valid."""
        if not self._check_text(value, location):
            return None
        try:
            return model.model_validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                # A list counts as too short when its items are wrong; those are noted by themselves.
                if detail["type"] != "too_short" or not detail["input"]:
                    self.add((*location, *_without_validators(detail["loc"])), _describe(model, detail))
            return None

    def _check_text(self, value: Any, location: Location) -> bool:
        """Whether all texts in `value` can be encoded; those that cannot are noted."""
        if isinstance(value, str):
            try:
                value.encode()
            except UnicodeEncodeError as error:
                self.add(location, f"is not text in UTF-8: it has {value[error.start : error.end]!r}")
                return False
            return True
        parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        wrong = [key for key, part in parts if not self._check_text(part, (*location, key))]  # notes all of them
        return not wrong

    def raise_any(self) -> None:
        """Raise `Mistakes`, with one line for each, if there is one."""
        if self._lines:
            raise Mistakes(self._lines)

    def _format_place(self, location: Location) -> str:
        for path in self._overrides:
            if location[: len(path)] == path:
                return f"--{path[-1]}"
        dotted = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in location).lstrip(".")
        return f"{self._file}: {dotted}" if self._file else dotted


def _without_validators(location: Location) -> Location:
    """`location` without the parts that pydantic adds for validator functions."""
    return tuple(key for key in location if isinstance(key, int) or "function-" not in key)


def _describe(model: type[BaseModel], detail: Any) -> str:
    if detail["type"] == "extra_forbidden":
        known = _fields_at(model, detail["loc"][:-1])
        return f"unknown key{did_you_mean(str(detail['loc'][-1]), known)} Known: {', '.join(known) or 'none'}"
    if detail["type"] == "too_short":
        return "must not be empty"
    if detail["type"] == "missing":
        return "is required"
    if detail["type"] == "value_error":  # raised by a validator of ours
        return str(detail["ctx"]["error"])
    if detail["type"] == "union_tag_invalid":
        return f"'name' should be one of {detail['ctx']['expected_tags']}, got {_shortened(detail['ctx']['tag'])}"
    if detail["type"] == "union_tag_not_found":
        return f"'name' is required, got {_shortened(detail['input'])}"
    message = str(detail["msg"])
    return f"{message[0].lower()}{message[1:]}, got {_shortened(detail['input'])}"


def _shortened(value: Any) -> str:
    """A value as messages show it, in at most 100 characters."""
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _fields_at(model: type[BaseModel], location: Location) -> list[str]:
    """Names of the fields of the nested section at `location`."""
    schema = _schema(model)
    node: Any = schema
    for key in location:
        node = _resolve(schema, node)
        if isinstance(key, int):
            node = node.get("items", {})
        elif "discriminator" in node:
            node = {"$ref": node["discriminator"]["mapping"][key]}
        else:
            of_names: dict[str, Any] = next(iter(node.get("patternProperties", {}).values()), {})
            node = node.get("properties", {}).get(key) or of_names
    return list(_resolve(schema, node).get("properties", {}))


@cache
def _schema(model: type[BaseModel]) -> Any:
    return model.model_json_schema()


def _resolve(schema: Any, node: Any) -> Any:
    """Follow `$ref`, and take the structured branch of an optional field."""
    while isinstance(node, dict) and ("$ref" in node or "anyOf" in node):
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[-1]]
        else:
            node = next(branch for branch in node["anyOf"] if branch.get("type") != "null")
    return node
