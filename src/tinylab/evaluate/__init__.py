"""Finished runs evaluated on labeled data, their own or other.

``scope`` selects the images, and never includes training images silently; ``figures`` has the
metrics, ``report`` shows and writes them.
"""
