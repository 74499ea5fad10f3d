"""Evaluates a task on a trained model."""
