"""Where datasets and decoded arrays are kept."""

import os
from pathlib import Path


def data_root() -> Path:
    """``$TINYLAB_DATA``, else ``data`` in the user's cache folder."""
    given = os.environ.get("TINYLAB_DATA")
    return Path(given).expanduser() if given else cache_root() / "data"


def cache_root() -> Path:
    """``$XDG_CACHE_HOME/tinylab``, else ``~/.cache/tinylab``."""
    given = os.environ.get("XDG_CACHE_HOME")
    return (Path(given) if given else Path.home() / ".cache") / "tinylab"
