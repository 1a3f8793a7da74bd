"""tinylab: a laboratory for small-image experiments."""

__version__ = "0.1.0"
