"""The program `aebench`: known errors on one line each, bugs with a traceback, and nothing after the result."""

from __future__ import annotations

import atexit
import os
import signal
import sys
from typing import Any, NoReturn

import typer
from typer.exceptions import TyperException

from aebench.cli.commands import app
from aebench.cli.output import print_error
from aebench.errors import AebenchError

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process.

    Python would take the process apart object by object: with PyTorch that takes half a second, and some libraries
    then report leaks. What has to happen at the end still happens.
    """
    signal.signal(signal.SIGTERM, _terminate)
    code = execute()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def execute() -> int:
    """Run the command that the arguments name; returns the exit code."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        print_error(error.format_message())
        return BAD_INPUT
    except AebenchError as error:
        print_error(str(error))
        return BAD_INPUT
    except (KeyboardInterrupt, typer.Abort):
        print_error("interrupted; what was done is kept, and the same command goes on from there")
        return INTERRUPTED
    except SystemExit as error:
        code = error.code
    return code if isinstance(code, int) else 0


def _terminate(signum: int, frame: Any) -> NoReturn:
    """SIGTERM unwinds the program like an exception, so that runs are closed and workers ended."""
    sys.exit(128 + signum)
