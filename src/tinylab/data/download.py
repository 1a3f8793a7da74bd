"""Fetching an archive: with progress, checked for size, unpacked without escaping its folder."""

import shutil
import tempfile
import urllib.request
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from tinylab.console import say, track
from tinylab.errors import UserError

CHUNK = 1 << 20  # bytes


def fetch_zip(url: str, folder: Path) -> None:
    """Download the zip archive at ``url`` and unpack it as ``folder``, all or nothing.

    An archive whose entries all lie in one top folder is unpacked without that folder. Raises
    UserError, with the remedy, where the host is out of reach, the transfer ends early, or an
    entry of the archive would land outside the folder.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".download-", dir=folder.parent) as name:
        archive, unpacked = Path(name) / "archive.zip", Path(name) / "unpacked"
        try:
            _download(url, archive)
            _unpack(archive, unpacked)
        except (OSError, zipfile.BadZipFile, EOFError, ValueError) as error:
            raise UserError(
                f"{url}: cannot be fetched: {error}\n"
                f"  fill {folder} by hand with a folder a class, or set dataset.root"
            ) from error
        inside = [path for path in unpacked.iterdir() if path.name != "__MACOSX"]
        top = inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked
        top.rename(folder)


def _download(url: str, archive: Path) -> None:
    with urllib.request.urlopen(url, timeout=30) as response, archive.open("wb") as file:
        expected = int(response.headers.get("Content-Length") or 0)
        megabytes = f" ({expected / 1e6:.1f} MB)" if expected else ""
        say(f"downloading {url}{megabytes}")
        for chunk in track(_chunks(response), "downloading, MB", -(-expected // CHUNK)):
            file.write(chunk)
    found = archive.stat().st_size
    if expected and found != expected:
        raise OSError(f"got {found:,} of {expected:,} bytes")


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack after a look at every name; zipfile itself checks each entry's CRC."""
    with zipfile.ZipFile(archive) as opened:
        root = folder.resolve()
        for entry in opened.infolist():
            target = (folder / entry.filename).resolve()
            is_link = (entry.external_attr >> 28) == 0xA
            if is_link or not target.is_relative_to(root) or "\\" in entry.filename:
                raise ValueError(f"entry {entry.filename!r} would leave the folder")
        folder.mkdir()
        for entry in opened.infolist():
            target = folder / entry.filename
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(entry) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)
