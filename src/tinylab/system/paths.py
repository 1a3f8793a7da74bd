"""Where datasets and decoded arrays are stored."""

import os
from pathlib import Path

from tinylab.errors import UserError
from tinylab.system.project import project


def data_root() -> Path:
    """Return ``$TINYLAB_DATA``, else the project's ``data``, else ``data`` in the user's cache
    folder.
    """
    if given := os.environ.get("TINYLAB_DATA"):
        return user_path(given)
    return project().data or cache_root() / "data"


def cache_root() -> Path:
    """Return ``$TINYLAB_CACHE``, else ``$XDG_CACHE_HOME/tinylab``, else ``~/.cache/tinylab``."""
    given = os.environ.get("TINYLAB_CACHE")
    return (
        user_path(given)
        if given
        else user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tinylab"
    )


def user_path(typed: str) -> Path:
    """Expand a path typed by a person, including ``~``. Raises UserError without a home folder."""
    try:
        return Path(typed).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{typed}: {error}\n  set HOME, or set TINYLAB_DATA and TINYLAB_CACHE"
        ) from error
