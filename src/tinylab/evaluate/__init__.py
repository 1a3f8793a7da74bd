"""Finished runs scored on labelled data, their own or other.

``scope`` says which images, and never takes training images unsaid; ``figures`` is what they give,
``calibration`` whether the probabilities can be believed, ``report`` what is shown and written.
"""
