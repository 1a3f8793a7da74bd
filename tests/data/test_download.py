"""Fetching an archive: all of it, inside its folder, or nothing and a word on what to do."""

import gzip
import hashlib
import io
import socket
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinylab.data import download
from tinylab.data.download import fetch_zip
from tinylab.errors import UserError
from tinylab.ui import console

PICTURE = b"pixels " * 1000


def zipped(*names: str, compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """A zip archive with PICTURE under each name; a name with a slash at its end is a folder."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive:
        for name in names:
            entry = zipfile.ZipInfo(name)
            entry.filename = name  # as it is: ZipInfo would tidy it up
            entry.compress_type = compression
            archive.writestr(entry, b"" if name.endswith("/") else PICTURE)
    return packed.getvalue()


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def refusal(url: str, root: Path) -> str:
    """What the user reads where the fetch fails, of which nothing may be left behind."""
    with pytest.raises(UserError) as error:
        fetch_zip(url, root / "scenes")
    assert list(root.rglob("*")) == []
    first, remedy = str(error.value).splitlines()
    assert first.startswith(f"{url}: cannot be downloaded: ")
    assert remedy == f"  put one folder per class into {root}/scenes, or set dataset.root"
    return first


def test_an_archive_is_unpacked_without_its_one_top_folder(
    tmp_path: Path, serve: Callable[..., str]
) -> None:
    page = zipped("top/", "top/00/", "top/00/1.jpg", "top/01/1.jpg")
    fetch_zip(serve({"a.zip": page}) + "a.zip", tmp_path / "data" / "scenes")
    assert tree(tmp_path) == ["data/scenes/00/1.jpg", "data/scenes/01/1.jpg"]
    assert (tmp_path / "data" / "scenes" / "00" / "1.jpg").read_bytes() == PICTURE


@pytest.mark.parametrize("top", ["", "top/"])
def test_what_macos_adds_is_left_out(tmp_path: Path, serve: Callable[..., str], top: str) -> None:
    page = zipped(f"{top}00/1.jpg", f"{top}01/1.jpg", "__MACOSX/00/._1.jpg")
    fetch_zip(serve({"a.zip": page}) + "a.zip", tmp_path / "scenes")
    assert tree(tmp_path / "scenes") == ["00/1.jpg", "01/1.jpg"]


def test_the_size_is_said_once_where_there_is_no_terminal(
    tmp_path: Path, serve: Callable[..., str], capsys: pytest.CaptureFixture[str]
) -> None:
    url = serve({"a.zip": zipped("0/1", compression=zipfile.ZIP_STORED) + b""}) + "a.zip"
    fetch_zip(url, tmp_path / "scenes")
    said = capsys.readouterr()
    assert said.out == f"downloading {url} (0.0 MB)\n"
    assert said.err == ""


def test_a_terminal_shows_a_bar_of_as_many_steps_as_there_are_pieces(
    tmp_path: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[int] = []

    def track(items: list[bytes], what: str, total: int) -> list[bytes]:
        shown.append(total)
        pieces = list(items)
        assert len(pieces) == total
        return pieces

    monkeypatch.setattr(download, "CHUNK", 1000)
    monkeypatch.setattr(download, "is_terminal", lambda: True)
    monkeypatch.setattr(download, "track", track)
    page = zipped("0/1", compression=zipfile.ZIP_STORED)
    fetch_zip(serve({"a.zip": page}) + "a.zip", tmp_path / "scenes")
    assert shown == [8]
    assert not console.is_terminal()


def test_a_host_that_does_not_tell_the_size_is_read_to_its_end(
    tmp_path: Path, serve: Callable[..., str]
) -> None:
    url = serve({"a.zip": zipped("0/1.jpg", "1/1.jpg")}, length=None) + "a.zip"
    fetch_zip(url, tmp_path / "scenes")
    assert len(tree(tmp_path / "scenes")) == 2


def test_a_transfer_that_ends_early_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    url = serve({"a.zip": zipped("0/1.jpg")}, length=123_456) + "a.zip"
    assert "of 123,456 bytes" in refusal(url, tmp_path)


@pytest.mark.parametrize("length", [100, -5])
def test_a_wrong_length_is_refused(tmp_path: Path, serve: Callable[..., str], length: int) -> None:
    refusal(serve({"a.zip": zipped("0/1.jpg")}, length=length) + "a.zip", tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../evil",
        "0/../../evil",
        "/evil",
        "//evil",
        "0\\1.jpg",
        "..\\evil",
        "C:\\evil",
        "../scenes2/1",
    ],
)
def test_an_entry_that_would_leave_the_folder_is_refused(
    tmp_path: Path, serve: Callable[..., str], name: str
) -> None:
    url = serve({"a.zip": zipped("0/1.jpg", name)}) + "a.zip"
    assert f"entry {name!r} points outside the folder" in refusal(url, tmp_path)


def test_a_symbolic_link_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        link = zipfile.ZipInfo("0/link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc")
        archive.writestr("0/link/passwd", "root::0:0")
    url = serve({"a.zip": packed.getvalue()}) + "a.zip"
    assert "entry '0/link' points outside the folder" in refusal(url, tmp_path)


def test_a_page_that_is_no_archive_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    url = serve({"a.zip": b"<html>please log in</html>"}) + "a.zip"
    assert "File is not a zip file" in refusal(url, tmp_path)


def test_an_empty_archive_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    url = serve({"a.zip": zipped()}) + "a.zip"
    assert "the archive is empty" in refusal(url, tmp_path)


def test_an_encrypted_archive_is_refused(tmp_path: Path, serve: Callable[..., str]) -> None:
    page = bytearray(zipped("0/1.jpg"))
    page[6] |= 1  # the flag in the entry's own header
    page[page.index(b"PK\x01\x02") + 8] |= 1  # and in the table of contents
    assert "encrypted" in refusal(serve({"a.zip": bytes(page)}) + "a.zip", tmp_path)


@pytest.mark.costly
@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), flip=st.integers(1, 255))
def test_a_damaged_archive_is_refused_or_its_content_is_whole(
    tmp_path_factory: pytest.TempPathFactory, place: float, flip: int
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    page = bytearray(zipped("0/1.jpg", "1/1.jpg"))
    page[int(place * len(page))] ^= flip
    (root / "a.zip").write_bytes(page)
    try:
        fetch_zip((root / "a.zip").as_uri(), root / "scenes")
    except UserError:
        assert tree(root) == ["a.zip"]
    else:
        for file in tree(root / "scenes"):
            assert (root / "scenes" / file).read_bytes() == PICTURE


def test_a_host_out_of_reach_is_said(tmp_path: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/a.zip"
        assert "refused" in refusal(url, tmp_path)


def test_a_silent_host_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert "timed out" in refusal(f"http://127.0.0.1:{silent.getsockname()[1]}/a", tmp_path)


def test_a_page_that_is_not_there_is_said(tmp_path: Path, serve: Callable[..., str]) -> None:
    assert "HTTP Error 404" in refusal(serve({}) + "a.zip", tmp_path)


@pytest.mark.parametrize("url", ["no address", "ftpx://host/a.zip", "http://a b/c.zip", "http:///"])
def test_an_address_that_is_none_is_said(tmp_path: Path, url: str) -> None:
    refusal(url, tmp_path)


def test_a_place_that_cannot_be_written_is_said(tmp_path: Path, serve: Callable[..., str]) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UserError, match=f"put one folder per class into {tmp_path}/file/scenes"):
        fetch_zip(serve({"a.zip": zipped("0/1.jpg")}) + "a.zip", tmp_path / "file" / "scenes")


def test_a_process_that_was_faster_is_left_alone(tmp_path: Path, serve: Callable[..., str]) -> None:
    (tmp_path / "scenes" / "0").mkdir(parents=True)
    fetch_zip(serve({"a.zip": zipped("0/1.jpg", "1/1.jpg")}) + "a.zip", tmp_path / "scenes")
    assert [path.name for path in tmp_path.rglob("*")] == ["scenes", "0"]


def test_what_is_fetched_into_a_shared_folder_is_the_groups(
    serve: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared").chmod(0o770)
    file = tmp_path / "shared" / "raw" / "a"
    sha256 = hashlib.sha256(b"ink").hexdigest()
    download.fetch_gz([f"{serve({'a.gz': gzip.compress(b'ink')})}a.gz"], file, sha256, 100)
    assert file.stat().st_mode & 0o070 == 0o060
    assert file.parent.stat().st_mode & 0o070 == 0o070
