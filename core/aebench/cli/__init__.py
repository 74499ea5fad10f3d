"""The program `aebench`: exit codes, known errors on one line each, and bugs with a traceback."""

from __future__ import annotations

import atexit
import os
import sys
from typing import NoReturn

import typer
from typer.exceptions import TyperException

from aebench.cli.commands import FAILED, app
from aebench.cli.output import print_error
from aebench.cli.signals import StopSignals
from aebench.errors import AebenchError

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes


def main() -> NoReturn:
    """Run the command that the arguments name, and end the process.

    The process ends without Python's teardown of objects, which takes half a second with PyTorch and makes some
    libraries report leaks. Exit handlers still run, and output is flushed.
    """
    signals = StopSignals()
    signals.install()
    try:
        code = execute()
        signals.ignore()
    except BaseException:
        signals.ignore()
        if signals.received is None:
            raise  # a bug
        code = FAILED
    if signals.received is not None and code:
        code = signals.exit_code
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def execute() -> int:
    """Run the command that the arguments name, print known errors, and return the exit code."""
    try:
        code = app(standalone_mode=False)
    except TyperException as error:
        print_error(" ".join(error.format_message().split()))
        return BAD_INPUT
    except AebenchError as error:
        print_error("\n".join(error.lines))
        return BAD_INPUT
    except SystemExit as error:
        code = error.code
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    if code == INTERRUPTED:  # what typer returns when it has caught a KeyboardInterrupt
        print_error("interrupted; finished results are kept, and the same command resumes the run")
    if isinstance(code, str):
        print_error(code)
        return FAILED
    return code or 0
