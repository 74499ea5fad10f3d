"""aebench: a plugin-based benchmark suite for autoencoders."""

__version__ = "0.2.0"
