"""Requires a version of aebench that does not exist."""

from aebench.contracts import what_comes_with_99

print(what_comes_with_99)
