"""Sweeps: many configs from one command, checked before the first job starts."""

from tinylab.sweep.grid import run

__all__ = ["run"]
