"""Trained networks as files for other programs, uint8 images in, logits out.

``network`` is what is exported and what is told with it, ``formats`` writes and opens the files,
``check`` compares a file with the original.
"""
