"""``tinylab report``: a self-contained HTML page about a sweep, or any set of runs.

``page`` collects its contents from the settings and verdicts of ``compare``; ``answer`` writes its
first sentences, ``tables`` its tables, ``charts`` selects the figures, ``figures`` renders them
(with ``svg``), ``mistakes`` finds the errors of the best setting, and ``page.html.j2`` is the
layout.
``card`` and ``card.md.j2`` do the same for a run's model card. Does not import torch.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from tinylab import __version__
from tinylab.errors import UserError
from tinylab.reporting import card
from tinylab.reporting.gallery import Explanation, Galleries
from tinylab.reporting.page import build
from tinylab.store.sweep import SweepFolder
from tinylab.system.files import NAMED, write_text

LOOK_SECONDS = 2.0  # seconds between two checks of a sweep
RELOAD_SECONDS = 5.0  # seconds after which an open page reloads itself
WATCH_RATIO = 9.0  # multiples of the time a page took, until the next one
RELOADS = '<meta http-equiv="refresh"'


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


def updates(sweep: SweepFolder, out: Path) -> Iterator[float]:
    """Rewrite the page whenever a job of the sweep ends, until all have; yields seconds to wait.

    The page reloads itself in a browser; ``write`` replaces it by one that does not.
    """
    shown: set[str] = set()
    wait = LOOK_SECONDS
    while (ended := sweep.ended_jobs()) is not None:
        if ended != shown:
            started = time.monotonic()
            with contextlib.suppress(UserError):  # no run is finished yet
                write([sweep.path], out, reload=RELOAD_SECONDS)
            shown = ended
            # A page of many runs takes seconds of CPU time that the sweep needs.
            wait = max(LOOK_SECONDS, WATCH_RATIO * (time.monotonic() - started))
        yield wait


def is_settled(page: Path) -> bool:
    """Whether a page exists that does not reload itself: one of a sweep that has ended."""
    return page.exists() and RELOADS not in page.read_text(encoding="utf-8", errors="replace")


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
