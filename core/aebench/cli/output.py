"""How commands print: to a terminal or a log file, as JSON, to a file, and errors on one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aebench.errors import AebenchError

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """The terminal; where there is none, as wide as a table needs, which must not lose columns in a log file."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def print_error(message: str) -> None:
    """Print each line of a message to stderr, with the name of the program before it."""
    for line in message.splitlines():
        print(f"aebench: {line}", file=sys.stderr)


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file and say so.

    Raises:
        AebenchError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AebenchError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {path}")
