"""A matrix and its cells, independent of where they are stored."""
