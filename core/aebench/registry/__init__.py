"""Loads plugins from entry points and holds the records they register; a plugin that fails becomes data."""
