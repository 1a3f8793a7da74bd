"""From finished runs to tables and tests. Does not import torch, and SciPy only where needed.

``settings`` groups runs by everything except seeds, ``statistics`` has the tests and intervals,
``verdicts`` compares settings, ``variance`` estimates variance components, and ``comparison``
combines them. ``show`` prints it with ``columns`` and ``tables``, ``formats`` exports it.
``differences`` compares two configs.
"""
