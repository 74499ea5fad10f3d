"""Turns a configuration and the registered plugins into a plan: trainings and cells, each with a content hash."""
