"""What a check is: one demand of the contract, looked at for one plugin, with a report that helps to mend it."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

S = TypeVar("S")


class Nonconformance(AssertionError):
    """A plugin does not do what the contract asks.

    Args:
        expected: what the contract asks for.
        seen: what the plugin did instead.
    """

    def __init__(self, expected: str, seen: str) -> None:
        super().__init__(f"expected {expected}, but {seen}")
        self.expected = expected
        self.seen = seen


@dataclass(frozen=True)
class CheckResult:
    """How a check ended: `ok`, or what was expected, what was seen, and where the contract says so.

    Attributes:
        name: of the check.
        title: what it demands.
        looked_at: how many things it looked at; a check that finds nothing to look at fails.
        expected, seen, read_on, traceback: empty when all is well.
    """

    name: str
    title: str
    looked_at: int
    expected: str = ""
    seen: str = ""
    read_on: str = ""
    traceback: str = ""

    @property
    def ok(self) -> bool:
        return not self.expected

    @property
    def message(self) -> str:
        """Three lines for people: expected, seen, read on."""
        lines = [f"expected: {self.expected}", f"seen: {self.seen}", f"read on: {self.read_on}"]
        return "" if self.ok else "\n".join(lines)


@dataclass(frozen=True)
class Check(Generic[S]):
    """A demand of the contract.

    Attributes:
        look: looks at the plugin and returns at how many things it has looked; raises Nonconformance.
        read_on: the part of `aebench` whose documentation states the demand.
    """

    look: Callable[[S], int]
    read_on: str

    @property
    def name(self) -> str:
        return self.look.__name__

    @property
    def title(self) -> str:
        return (self.look.__doc__ or "").strip().partition("\n")[0].rstrip(".")

    def __call__(self, subject: S) -> CheckResult:
        """Look at the subject; an exception it raises is a failure like any other."""
        try:
            looked_at = self.look(subject)
        except Nonconformance as error:
            return self._failed(error.expected, error.seen)
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            seen = f"{type(error).__name__}: {error} ({frame.filename}:{frame.lineno})"
            return self._failed("no exception", seen, "".join(traceback.format_exception(error)))
        if not looked_at:
            return self._failed("something to check", "found nothing")
        return CheckResult(self.name, self.title, looked_at)

    def _failed(self, expected: str, seen: str, trace: str = "") -> CheckResult:
        return CheckResult(self.name, self.title, 0, expected, seen, self.read_on, trace)


def check(read_on: str) -> Callable[[Callable[[S], int]], Check[S]]:
    """Makes a check of a function, whose first docstring line becomes its title."""
    return lambda look: Check(look, read_on)


def expect(condition: Any, expected: str, seen: str) -> None:
    """Raise Nonconformance unless `condition` holds."""
    if not condition:
        raise Nonconformance(expected, seen)


@dataclass(frozen=True)
class BoundCheck(Generic[S]):
    """A check together with the plugin it looks at."""

    check: Check[S]
    subject: S

    @property
    def name(self) -> str:
        return self.check.name

    def __call__(self) -> CheckResult:
        return self.check(self.subject)
