"""Finished runs scored on labelled data, their own or other.

``scope`` says which images, and never takes training images unsaid; ``figures`` is what they give,
``report`` what is shown and written.
"""
