"""Entry points become records; every failure becomes data."""
