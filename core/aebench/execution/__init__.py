"""Where work runs."""

from aebench.execution.crew import Crew
from aebench.execution.local import LocalExecutor

__all__ = ["Crew", "LocalExecutor"]
