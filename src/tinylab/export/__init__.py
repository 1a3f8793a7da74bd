"""Trained networks as files for other programs: uint8 images in, logits out.

``network`` is the exported network with its metadata, ``formats`` writes and opens the files,
``check`` compares a file with the original.
"""
