"""From image files to classes, in a stream.

``gather`` finds the files, ``pictures`` reads them as the network wants them, ``classify`` asks the
network, ``formats`` writes the answers.
"""
