"""A check: one requirement of the contract, tested on one plugin, and a report that helps to fix a failure."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S")


class Nonconformance(AssertionError):
    """A plugin does not do what the contract requires.

    Args:
        expected: what the contract requires.
        actual: what the plugin does.
    """

    def __init__(self, expected: str, actual: str) -> None:
        super().__init__(f"expected {expected}, but {actual}")
        self.expected = expected
        self.actual = actual


@dataclass(frozen=True)
class CheckResult:
    """The outcome of a check: `ok`, or what was expected, what was found, and where the contract says so.

    Attributes:
        name: of the check.
        title: the requirement, in one sentence.
        checked: the number of things that were checked; a check of nothing fails.
        expected, actual, docs, traceback: empty if the check passed.
    """

    name: str
    title: str
    checked: int
    expected: str = ""
    actual: str = ""
    docs: str = ""
    traceback: str = ""

    @property
    def ok(self) -> bool:
        return not self.expected

    @property
    def message(self) -> str:
        """Three lines: expected, actual, docs; empty if the check passed."""
        lines = [f"expected: {self.expected}", f"actual: {self.actual}", f"docs: {self.docs}"]
        return "" if self.ok else "\n".join(lines)


@dataclass(frozen=True)
class Check(Generic[S]):
    """A requirement of the contract.

    Attributes:
        run: tests a plugin and returns the number of things it checked; raises Nonconformance.
        docs: the object in `aebench` whose docstring states the requirement.
    """

    run: Callable[[S], int]
    docs: str

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def title(self) -> str:
        return (self.run.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    def __call__(self, subject: S) -> CheckResult:
        """Check the subject; an exception that it raises fails the check."""
        try:
            checked = self.run(subject)
        except Nonconformance as error:
            return self._failed(error.expected, error.actual)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            actual = f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
            return self._failed("no exception", actual, "".join(traceback.format_exception(error)))
        if not checked:
            return self._failed("something to check", "found nothing")
        return CheckResult(self.name, self.title, checked)

    def _failed(self, expected: str, actual: str, trace: str = "") -> CheckResult:
        return CheckResult(self.name, self.title, 0, expected, actual, self.docs, trace)


def check(docs: str) -> Callable[[Callable[[S], int]], Check[S]]:
    """Turn a function into a check; the first line of its docstring becomes the title."""
    return lambda run: Check(run, docs)


def expect(condition: Any, expected: str, actual: str) -> None:
    """Raise Nonconformance unless `condition` is true."""
    if not condition:
        raise Nonconformance(expected, actual)


@dataclass(frozen=True)
class BoundCheck(Generic[S]):
    """A check together with the plugin that it checks."""

    check: Check[S]
    subject: S

    @property
    def name(self) -> str:
        return self.check.name

    def __call__(self) -> CheckResult:
        return self.check(self.subject)
