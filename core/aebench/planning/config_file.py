"""Reads the YAML of a configuration: plain values of limited size and depth, each key once."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import yaml

from aebench.errors import AebenchError, one_line
from aebench.files import check_regular

LARGEST_FILE = 200_000  # bytes
DEEPEST = 50  # levels of nesting
MOST_VALUES = 10_000  # with every alias replaced by what it stands for
LARGEST_NUMBER = 2**63 - 1
YAML = "tag:yaml.org,2002:"  # begins the tags of YAML's own types
PLAIN_TAGS = {None, "!", f"{YAML}str"}


def read_config_file(file: Path) -> dict[str, Any]:
    """The sections of a configuration: mappings with texts as keys, lists, texts, numbers, booleans and None.

    Raises:
        AebenchError: the file cannot be read, is not YAML in UTF-8, uses tags or aliases of itself, gives a key twice,
            or exceeds a limit of this file.
    """
    text = _read_text(file)
    try:
        _check_events(text)
        data = yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        raise AebenchError(f"{file}: is not YAML for a configuration: {_describe(error)}") from error
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise AebenchError(f"{file}: expected keys such as 'dataset' and 'models', got a {type(data).__name__}")
    return data


def _describe(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return one_line(error)
    problem = str(getattr(error, "problem", error)).removeprefix("but ")
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def _read_text(file: Path) -> str:
    try:
        check_regular(file)
        with file.open("rb") as content:
            read = content.read(LARGEST_FILE + 1)
        if len(read) > LARGEST_FILE:
            raise AebenchError(f"{file}: has more than {LARGEST_FILE:,} bytes, the limit of a configuration")
        return read.decode("utf-8-sig")
    except OSError as error:
        raise AebenchError(f"{file}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise AebenchError(f"{file}: is not text in UTF-8: {error.reason} at byte {error.start}") from error


def _check_events(text: str) -> None:
    """Look through a document before it takes memory: its tags, its depth, and its size with all aliases replaced.

    Raises:
        yaml.YAMLError: it is not YAML, or exceeds a limit.
    """
    sizes: dict[str, int | None] = {}  # of each anchor; None inside it
    open_nodes: list[tuple[str | None, int]] = []  # anchor, and size of the document before it
    values = 0
    for event in yaml.parse(text, yaml.SafeLoader):
        if isinstance(event, yaml.AliasEvent):
            size = sizes.get(event.anchor, 1)  # composing reports an anchor that is not there
            if size is None:
                raise yaml.MarkedYAMLError(problem=f"'*{event.anchor}' contains itself", problem_mark=event.start_mark)
            values += size
        elif isinstance(event, yaml.NodeEvent):
            if event.tag not in PLAIN_TAGS:
                raise yaml.MarkedYAMLError(
                    problem=f"the tag '{event.tag}' is not allowed; values are plain", problem_mark=event.start_mark
                )
            values += 1
            if isinstance(event, yaml.CollectionStartEvent):
                open_nodes.append((event.anchor, values))
                if event.anchor is not None:
                    sizes[event.anchor] = None
            elif event.anchor is not None:
                sizes[event.anchor] = 1
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = open_nodes.pop()
            if anchor is not None:
                sizes[anchor] = values - before + 1
        if len(open_nodes) > DEEPEST:
            raise yaml.MarkedYAMLError(problem=f"more than {DEEPEST} levels of nesting", problem_mark=event.start_mark)
        if values > MOST_VALUES:
            raise yaml.MarkedYAMLError(
                problem=f"more than {MOST_VALUES:,} values, with aliases replaced", problem_mark=event.start_mark
            )


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Reads keys as they are written, refuses one that is given twice, and leaves dates and times as texts."""

    yaml_implicit_resolvers: ClassVar = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag not in (f"{YAML}timestamp", f"{YAML}value")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        given = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in given:
                raise yaml.MarkedYAMLError(problem=f"the key '{key.value}' is given twice", problem_mark=key.start_mark)
            given.add(key.value)
        return node

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        return {key.value: self.construct_object(value, deep=True) for key, value in node.value}

    def number(self, node: Any) -> int | float | str:
        """A number; a time such as 12:30, which YAML 1.1 reads as one, stays text."""
        if ":" in node.value:
            return str(node.value)
        if node.tag == f"{YAML}float":
            return float(self.construct_yaml_float(node))
        value = int(self.construct_yaml_int(node)) if len(node.value) < 100 else LARGEST_NUMBER + 1
        if abs(value) > LARGEST_NUMBER:
            raise yaml.MarkedYAMLError(
                problem=f"a whole number beyond {LARGEST_NUMBER:,}", problem_mark=node.start_mark
            )
        return value


for _kind in ("int", "float"):
    _Loader.add_constructor(f"{YAML}{_kind}", _Loader.number)
