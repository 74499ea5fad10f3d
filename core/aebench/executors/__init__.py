"""Where work runs."""

from aebench.executors.crew import Crew
from aebench.executors.local import LocalExecutor

__all__ = ["Crew", "LocalExecutor"]
