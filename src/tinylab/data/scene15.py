"""15-Scene (Lazebnik, Schmid, Ponce, CVPR 2006): 4,485 photographs in 15 class folders.

Class folders may be named in words or numbered 00 to 14, as different copies have them.
"""

from pathlib import Path

from tinylab.config.schema import Scene15Config
from tinylab.data import folder
from tinylab.data.arrays import DataAbsentError, Source
from tinylab.data.listing import class_folders
from tinylab.data.paths import data_root, user_path
from tinylab.errors import UserError
from tinylab.ui.console import say

NUM_CLASSES = 15


def find(config: Scene15Config) -> Source:
    """The image files. Raises DataAbsentError, or UserError where there are not 15 classes."""
    root = _root(config)
    if not root.is_dir():
        raise DataAbsentError(f"{root}: absent; expected 15-Scene's 15 class folders in it")
    files = class_folders(root)
    if len(files.classes) != NUM_CLASSES:
        raise UserError(f"{root}: found {len(files.classes)} class folders; expected 15-Scene's 15")
    return folder.source_of(files, config)


def fetch(config: Scene15Config) -> None:
    """Download the images into the data root. Raises UserError where that fails."""
    from tinylab.data.download import fetch_zip  # and with it urllib, ssl and email

    root = _root(config)
    say(f"15-Scene is not in {root}")
    fetch_zip(config.url, root)


def _root(config: Scene15Config) -> Path:
    return data_root() / "15-Scene" if config.root is None else user_path(config.root)
