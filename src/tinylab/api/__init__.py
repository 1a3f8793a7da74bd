"""The laboratory from Python: the same commands, runs and folders as from the shell.

``functions`` are those that ``import tinylab`` offers; ``arguments`` turns what they are given into
what a shell would have typed; ``trained``, ``swept`` and ``compared`` are what they return.
"""
