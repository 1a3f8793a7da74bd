"""A comparison in Python: the output of ``tinylab compare`` and the values behind it."""

import html
from collections.abc import Sequence

from tinylab.comparison import show
from tinylab.comparison.comparison import Comparison
from tinylab.store.collect import Skipped
from tinylab.ui.tables import on_screen


class Comparisons(list[Comparison]):
    """A list with one Comparison per dataset, displayed as the tables of ``tinylab compare``.

    skipped: the runs that were left out, and why.
    """

    def __init__(self, comparisons: Sequence[Comparison], skipped: Sequence[Skipped]) -> None:
        super().__init__(comparisons)
        self.skipped = tuple(skipped)

    def __repr__(self) -> str:
        return "\n".join(on_screen(show.sections(self, self.skipped, is_narrow=True)))

    def _repr_html_(self) -> str:
        # nbconvert's pages lack JupyterLab's style for <pre>.
        return f'<pre style="font-family: monospace">{html.escape(repr(self))}</pre>'
