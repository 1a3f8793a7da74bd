"""15-Scene (Lazebnik, Schmid, Ponce, CVPR 2006): 4,485 photos in 15 class folders.

Class folders may be named in words or numbered 00 to 14, depending on the copy.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from tinylab.config.decorators import dataset
from tinylab.config.values import option
from tinylab.data.arrays import DataAbsentError, Source
from tinylab.data.class_tree import class_folders
from tinylab.data.folder import Folder, source_of
from tinylab.errors import UserError
from tinylab.system.paths import data_root, user_path
from tinylab.ui.console import say

NUM_CLASSES = 15
# ``contents_sha256`` of the copy with 200x200 images that the results in docs/ were made with.
CONTENTS = "22dfcbbc2be60d18c0b4501c99cd6a66ac627053a352fe3700ff6f6e78c04181"


@dataset
@dataclass(frozen=True)
class Scene15(Folder):
    """15-Scene: 4,485 grayscale photographs in 15 classes (Lazebnik et al., CVPR 2006)."""

    name: ClassVar[str] = "scene15"

    root: str | None = option(
        None, "folder with the class folders; null: 15-Scene in the data root", is_place=True
    )
    grayscale: bool = option(True, "true: one channel; false: three (RGB)")
    url: str = option(
        "https://ndownloader.figshare.com/files/12855452",
        "URL of the zip archive to download if the images are missing (Figshare article 7007177)",
        identity=False,
    )

    def find(self) -> Source:
        """Return the image files. Raises DataAbsentError; UserError for other than 15 classes."""
        root = self._path()
        if not root.is_dir():
            raise DataAbsentError(f"{root}: not found; expected 15-Scene's 15 class folders")
        files = class_folders(root)
        if len(files.classes) != NUM_CLASSES:
            raise UserError(
                f"{root}: found {len(files.classes)} class folders; expected 15-Scene's 15"
            )
        return source_of(files, self)

    def fetch(self) -> None:
        """Download the images into the data root. Raises UserError on failure."""
        from tinylab.data.download import fetch_zip  # imports urllib, ssl and email

        root = self._path()
        if self.root is not None:
            raise UserError(
                f"dataset.root={root}: no such folder; expected one with 15-Scene's 15 class "
                "folders\n"
                "  leave dataset.root out to download them into the data root"
            )
        say(f"15-Scene is not in {root}")
        fetch_zip(self.url, root)
        if contents_sha256(root) != CONTENTS:
            say(
                f"{root}: differs from the copy used for the documented results, so "
                "yours may differ"
            )

    def _path(self) -> Path:
        return data_root() / "15-Scene" if self.root is None else user_path(self.root)


def contents_sha256(root: Path) -> str:
    """Return a hash of all images' contents; names, which differ between copies, do not matter."""
    files = [root / name for name in class_folders(root).names]
    each = sorted(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    return hashlib.sha256("".join(each).encode()).hexdigest()
