"""From image files to classes, in a stream.

``gather`` finds the files, ``pictures`` preprocesses them, ``classify`` runs the network,
``formats`` writes the predictions.
"""
