"""15-Scene (Lazebnik, Schmid, Ponce, CVPR 2006): 4,485 photographs in 15 class folders.

Class folders may be named in words or numbered 00 to 14, as different copies have them.
"""

import hashlib
from pathlib import Path

from tinylab.config.schema import Scene15Config
from tinylab.data import folder
from tinylab.data.arrays import DataAbsentError, Source
from tinylab.data.listing import class_folders
from tinylab.data.paths import data_root, user_path
from tinylab.errors import UserError
from tinylab.ui.console import say

NUM_CLASSES = 15
# ``contents_sha256`` of the copy with images of 200x200 that the README's results were made with.
CONTENTS = "22dfcbbc2be60d18c0b4501c99cd6a66ac627053a352fe3700ff6f6e78c04181"


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
    if config.root is not None:
        raise UserError(
            f"dataset.root={root}: no such folder; expected 15-Scene's 15 class folders in it\n"
            "  leave dataset.root out, and they are downloaded into the data root"
        )
    say(f"15-Scene is not in {root}")
    fetch_zip(config.url, root)
    if contents_sha256(root) != CONTENTS:
        say(
            f"{root}: not byte for byte the copy that the README's results were made with, so "
            "yours may differ"
        )


def contents_sha256(root: Path) -> str:
    """A hash of all images' contents; names, which differ between copies, do not matter."""
    files = [root / name for name in class_folders(root).names]
    each = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("".join(each).encode()).hexdigest()


def _root(config: Scene15Config) -> Path:
    return data_root() / "15-Scene" if config.root is None else user_path(config.root)
