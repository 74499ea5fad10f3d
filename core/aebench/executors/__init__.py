"""Where units of work run: on this machine's processes and devices."""

from aebench.executors.local import LocalExecutor, choose_device

__all__ = ["LocalExecutor", "choose_device"]
