"""Was written for an aebench yet to come."""

from aebench.contracts import what_comes_with_99

print(what_comes_with_99)
