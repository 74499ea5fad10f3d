"""Benchmarks of speed; each measures its baseline in the same run."""
