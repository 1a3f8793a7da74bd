"""``tinylab report``: one self-contained HTML page on a sweep, or on any set of runs.

``page`` says what stands on it, from the settings and verdicts of ``compare``; ``answer`` its
first sentences, ``tables`` its tables, ``charts`` which figures fit, ``figures`` how they are
drawn (with ``svg``), ``mistakes`` what the best setting gets wrong (with ``png``), and
``page.html.j2`` how it looks. No torch in here.
"""

from collections.abc import Sequence
from pathlib import Path

from tinylab import __version__
from tinylab.files import write_text
from tinylab.report.page import build


def write(paths: Sequence[Path], out: Path, question: str | None = None) -> None:
    """Write the page on the finished runs in ``paths`` to ``out``.

    ``question`` is the command that is answered, where the paths do not tell it. Raises UserError
    where no path holds a finished run.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    page = build(paths, question)
    environment = Environment(
        loader=PackageLoader("tinylab", "report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    write_text(out, environment.get_template("page.html.j2").render(page=page, version=__version__))
