"""Asks one task of one trained model."""
