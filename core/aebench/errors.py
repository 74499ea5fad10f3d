"""Errors that a user can cause and correct; the command line prints them without a traceback."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable


class AebenchError(Exception):
    """An error that is not a bug: the message says what is wrong, where it comes from and what would be right."""

    @property
    def lines(self) -> tuple[str, ...]:
        """The message as it is printed: one line, whatever the names in it contain."""
        return (visible(str(self)),)


class Mistakes(AebenchError):
    """Several mistakes at once, each with a line."""

    def __init__(self, mistakes: Iterable[str]) -> None:
        self._lines = tuple(visible(mistake) for mistake in mistakes)
        super().__init__("\n".join(self._lines))

    @property
    def lines(self) -> tuple[str, ...]:
        return self._lines


class TrainingDiverged(AebenchError):
    """The training loss of a model stopped being a finite number."""


class BudgetExceeded(AebenchError):
    """The stages of a model need more epochs than the training budget."""


class DamagedFile(AebenchError):
    """A file is not what was written to it."""


class NotMeasured(AebenchError):
    """A number that a study's claim needs is not in the results."""


def one_line(error: BaseException) -> str:
    """The message of an error on one line of at most 300 characters; the name of its type if it has no message."""
    return textwrap.shorten(str(error), 300) or type(error).__name__


def visible(text: str) -> str:
    """The text with every control character as its escape, so that a name cannot move a terminal's cursor."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
