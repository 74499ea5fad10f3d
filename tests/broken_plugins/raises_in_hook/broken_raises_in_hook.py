"""Raises in its hook."""

from aebench.contracts import hookimpl


@hookimpl
def aebench_autoencoders():
    raise KeyError("no such thing")
