"""Download an archive with a progress bar, check its size, and unpack it safely."""

import contextlib
import gzip
import hashlib
import http.client
import lzma
import shutil
import tempfile
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from tinylab.errors import UserError
from tinylab.system.files import as_shared
from tinylab.ui.console import is_terminal, say, track

CHUNK = 1 << 20  # bytes
TIMEOUT = 30  # seconds without a response

# What goes wrong with hosts and archives. zipfile's RuntimeError is an encrypted entry, and
# NotImplementedError, which is one too, an unknown compression.
FAULTS = (
    OSError, http.client.HTTPException, ValueError, EOFError,
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, RuntimeError,
)  # fmt: skip


def fetch_zip(url: str, folder: Path) -> None:
    """Download the zip archive at ``url`` and unpack it as ``folder``, atomically.

    If all entries are in one top folder, that folder is dropped. Raises UserError, with the remedy,
    if the host is unreachable, the transfer is incomplete, or an entry of the archive points
    outside the folder.
    """
    try:
        with _aside(folder) as temporary:
            archive, unpacked = temporary / "archive.zip", temporary / "unpacked"
            _download(url, archive)
            _unpack(archive, unpacked)
            inside = list(unpacked.iterdir())
            top = inside[0] if len(inside) == 1 and inside[0].is_dir() else unpacked
            _move(top, folder)
    except FAULTS as error:
        raise UserError(
            f"{url}: cannot be downloaded: {error}\n"
            f"  put one folder per class into {folder}, or set dataset.root"
        ) from error


def fetch_gz(urls: Sequence[str], file: Path, sha256: str, max_bytes: int) -> None:
    """Download a gzip file from the first working one of ``urls``, and unpack it as ``file``.

    ``sha256`` is of the unpacked content. Raises UserError, with the error of each URL, if none has
    a file with that content; nothing is left behind.
    """
    faults = []
    for url in urls:
        try:
            with _aside(file) as temporary:
                packed, unpacked = temporary / "packed", temporary / "unpacked"
                _download(url, packed)
                with gzip.open(packed) as stream:
                    content = stream.read(max_bytes)
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise ValueError(f"unexpected content (expected SHA-256 {sha256})")
                unpacked.write_bytes(content)
                unpacked.replace(file)
            return
        except FAULTS as error:
            faults.append(f"{url}: {error}")
    raise UserError("; ".join(faults))


@contextlib.contextmanager
def _aside(target: Path) -> Iterator[Path]:
    """Yield a temporary folder next to ``target``, from which complete files are moved there."""
    with as_shared(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".download-", dir=target.parent) as name:
            yield Path(name)


def _download(url: str, archive: Path) -> None:
    with _open(url) as response, archive.open("wb") as file:
        expected = int(response.headers.get("Content-Length") or 0)
        megabytes = f" ({expected / 1e6:.1f} MB)" if expected else ""
        say(f"downloading {url}{megabytes}")
        chunks = _chunks(response)
        if expected and is_terminal():
            chunks = track(chunks, "downloading", -(-expected // CHUNK))
        for chunk in chunks:
            file.write(chunk)
    size = archive.stat().st_size
    if expected and size != expected:
        raise OSError(f"got {size:,} of {expected:,} bytes")


def _open(url: str) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        error.close()  # it holds the connection
        raise


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(CHUNK):
        yield chunk


def _unpack(archive: Path, folder: Path) -> None:
    """Unpack after checking every name; zipfile itself checks each entry's CRC."""
    with zipfile.ZipFile(archive) as opened:
        # macOS adds a second top folder with Finder's metadata.
        entries = [e for e in opened.infolist() if not e.filename.startswith("__MACOSX/")]
        if not entries:
            raise ValueError("the archive is empty")
        root = folder.resolve()
        for entry in entries:
            target = (folder / entry.filename).resolve()
            is_link = (entry.external_attr >> 28) == 0xA
            if is_link or not target.is_relative_to(root) or "\\" in entry.filename:
                raise ValueError(f"entry {entry.filename!r} points outside the folder")
        folder.mkdir()
        for entry in entries:
            target = folder / entry.filename
            if entry.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            with opened.open(entry) as source, target.open("wb") as copy:
                shutil.copyfileobj(source, copy)


def _move(unpacked: Path, folder: Path) -> None:
    try:
        unpacked.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has downloaded it meanwhile
            raise
