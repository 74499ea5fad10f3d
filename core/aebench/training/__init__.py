"""Trains one model: the only training loop."""
