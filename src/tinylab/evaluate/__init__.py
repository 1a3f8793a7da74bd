"""Finished runs evaluated on labeled data, their own or other.

``scope`` selects the images, and never includes training images silently; ``scores`` has the
metrics, ``report`` shows and writes them.
"""
