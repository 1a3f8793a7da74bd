"""``tinylab report``: one self-contained HTML page on a sweep, or on any set of runs.

``page`` says what stands on it, from the settings and verdicts of ``compare``; ``answer`` its
first sentences, ``tables`` its tables, ``charts`` which figures fit, ``figures`` how they are
drawn (with ``svg``), ``mistakes`` what the best setting gets wrong, and
``page.html.j2`` how it looks. ``card`` and ``card.md.j2`` do the same for the model card of one
run. No torch in here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tinylab import __version__
from tinylab.reporting import card
from tinylab.reporting.gallery import Explanation, Galleries
from tinylab.reporting.page import build
from tinylab.system.files import NAMED, write_text


def write(
    paths: Sequence[Path],
    out: Path,
    question: str | None = None,
    reload: float | None = None,
    explanation: Explanation | None = None,
) -> None:
    """Write the page on the finished runs in ``paths`` to ``out``, all at once.

    ``question`` is the command that is answered, where the paths do not tell it. ``reload``: the
    seconds after which a browser loads the page anew; None: never. ``explanation``: that of a
    single run. Raises UserError where no path holds a finished run.
    """
    page = build(paths, question, explanation)
    text = _render("page.html.j2", page=page, version=__version__, reload=reload)
    write_text(out, text, NAMED)


def write_galleries(out: Path, page: Galleries) -> None:
    """Write a page of images. Raises UserError where there is no room for it."""
    write_text(out, _render("gallery.html.j2", page=page, version=__version__), NAMED)


def write_card(folder: Path, out: Path) -> None:
    """Write the model card of a run as Markdown. Raises UserError where it is not finished."""
    write_text(out, _render("card.md.j2", card.markdown, **card.facts(folder)), NAMED)


def _render(template: str, finalize: Callable[[Any], Any] | None = None, **values: Any) -> str:
    """A template with values; ``finalize`` escapes them, or by default what escapes HTML."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("tinylab", "reporting"),
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(template).render(values)
