"""Where work runs."""

from aebench.executors.local import LocalExecutor

__all__ = ["LocalExecutor"]
