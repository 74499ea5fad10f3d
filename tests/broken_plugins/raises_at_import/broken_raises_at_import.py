"""Raises while it is imported."""

raise RuntimeError("half a plugin")
