"""Where datasets and decoded arrays are kept."""

import os
from pathlib import Path

from tinylab.errors import UserError


def data_root() -> Path:
    """``$TINYLAB_DATA``, else ``data`` in the user's cache folder."""
    given = os.environ.get("TINYLAB_DATA")
    return user_path(given) if given else cache_root() / "data"


def cache_root() -> Path:
    """``$TINYLAB_CACHE``, else ``$XDG_CACHE_HOME/tinylab``, else ``~/.cache/tinylab``."""
    given = os.environ.get("TINYLAB_CACHE")
    return (
        user_path(given)
        if given
        else user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "tinylab"
    )


def user_path(typed: str) -> Path:
    """A path as a person types it, ``~`` allowed. Raises UserError where there is no such home."""
    try:
        return Path(typed).expanduser()
    except RuntimeError as error:
        raise UserError(
            f"{typed}: {error}\n  set HOME, or TINYLAB_DATA and TINYLAB_CACHE to folders of yours"
        ) from error
