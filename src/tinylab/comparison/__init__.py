"""From finished runs to tables and verdicts. No torch in here, and SciPy only where it is needed.

``collect`` finds the runs, ``settings`` groups them by everything but their seeds, ``statistics``
holds the tests and intervals, ``verdicts`` says which setting beats which, ``variance`` where the
spread comes from; ``comparison`` puts them together. ``show`` says it in ``columns`` and
``tables``, ``formats`` writes it for other programs. ``differences`` compares two configs.
"""
