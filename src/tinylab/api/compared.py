"""A comparison in Python: what ``tinylab compare`` prints, with everything that is behind it."""

import html
from collections.abc import Sequence

from tinylab.comparison import show
from tinylab.comparison.comparison import Comparison
from tinylab.store.collect import Skipped
from tinylab.ui.tables import on_screen


class Comparisons(list[Comparison]):
    """One Comparison for each dataset; shown as the tables that ``tinylab compare`` prints.

    skipped: what was left out, and why.
    """

    def __init__(self, comparisons: Sequence[Comparison], skipped: Sequence[Skipped]) -> None:
        super().__init__(comparisons)
        self.skipped = tuple(skipped)

    def __repr__(self) -> str:
        return "\n".join(on_screen(show.sections(self, self.skipped, is_narrow=True)))

    def _repr_html_(self) -> str:
        # JupyterLab's own rule for <pre> is not in pages that nbconvert makes.
        return f'<pre style="font-family: monospace">{html.escape(repr(self))}</pre>'
