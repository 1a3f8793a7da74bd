"""The Python API: the same commands, runs and folders as on the command line.

``functions`` has the functions of ``import tinylab``; ``arguments`` translates their arguments into
command-line overrides; ``trained``, ``swept`` and ``compared`` are the return types.
"""
