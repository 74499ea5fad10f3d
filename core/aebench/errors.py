"""Errors a user can cause and mend; the command line prints them on one line."""

from __future__ import annotations

import textwrap


class AebenchError(Exception):
    """Something outside the code is wrong: the message says what, where it came from and what would be right."""


class TrainingDiverged(AebenchError):
    """The training loss of a model stopped being a finite number."""


class BudgetExceeded(AebenchError):
    """A model asks for more training than the budget that all models share."""


class NotMeasured(AebenchError):
    """A number that a study's claim asks for is not in the results."""


def one_line(error: BaseException) -> str:
    """What an error says, in at most 300 characters."""
    return textwrap.shorten(str(error), 300) or type(error).__name__
