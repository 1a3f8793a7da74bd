"""``tinylab report``: a self-contained HTML page about a sweep, or any set of runs.

``page`` collects its contents from the settings and verdicts of ``compare``; ``answer`` writes its
first sentences, ``tables`` its tables, ``charts`` selects the figures, ``figures`` renders them
(with ``svg``), ``mistakes`` finds the errors of the best setting, and ``page.html.j2`` is the
layout.
``card`` and ``card.md.j2`` do the same for a run's model card. Does not import torch.
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
    seconds after which a browser reloads the page; None: never. ``explanation``: that of a
    single run. Raises UserError where no path holds a finished run.
    """
    page = build(paths, question, explanation)
    text = _render("page.html.j2", page=page, version=__version__, reload=reload)
    write_text(out, text, NAMED)


def write_galleries(out: Path, page: Galleries) -> None:
    """Write a page of images. Raises UserError if the disk is full."""
    write_text(out, _render("gallery.html.j2", page=page, version=__version__), NAMED)


def write_card(folder: Path, out: Path) -> None:
    """Write the model card of a run as Markdown. Raises UserError if it is not finished."""
    write_text(out, _render("card.md.j2", card.markdown, **card.facts(folder)), NAMED)


def _render(template: str, finalize: Callable[[Any], Any] | None = None, **values: Any) -> str:
    """Render a template; ``finalize`` escapes values (default: HTML)."""
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
