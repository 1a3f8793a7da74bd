"""From finished runs to tables and verdicts. No torch in here, and SciPy only where it counts.

``collect`` finds the runs, ``settings`` groups them by everything but their seeds, ``statistics``
holds the tests, ``verdicts`` says which setting beats which, ``variance`` where the spread comes
from, ``differences`` what two configs do not share, ``show`` and ``formats`` what is printed.
"""
