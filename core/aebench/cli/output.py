"""Output of the commands: tables, JSON, files, and errors on one line each."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from aebench.errors import AebenchError, visible

if TYPE_CHECKING:
    from rich.console import Console


def console() -> Console:
    """A console on stdout; if that is not a terminal, it is wide enough for all columns of a table in a log file."""
    from rich.console import Console

    return Console() if sys.stdout.isatty() else Console(width=160)


def print_error(message: str) -> None:
    """Print each line of a message to stderr, after the name of the program."""
    for line in message.split("\n"):
        print(f"aebench: {visible(line)}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print a JSON value to stdout."""
    typer.echo(json.dumps(value, indent=2))


def write_text(path: Path, text: str) -> None:
    """Write a file as UTF-8 and print its path.

    Raises:
        AebenchError: the file cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise AebenchError(f"{path}: cannot be written: {error.strerror}") from error
    typer.echo(f"wrote {path}")
