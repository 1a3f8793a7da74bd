"""Which files a command line means."""

import io
import os
from pathlib import Path

import pytest

from tinylab.predict.gather import gather


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def test_a_folder_gives_its_images_in_natural_order_and_those_of_the_folders_in_it() -> None:
    make("f/10.png", "f/2.PNG", "f/notes.txt", "f/.hidden.png", "f/b/1.jpg", "f/.git/x.png")
    assert gather(["f"]) == ["f/2.PNG", "f/10.png", "f/b/1.jpg"]


def test_files_are_taken_whatever_their_names() -> None:
    make("a b'\".png", "é 数.png", "[1].png", "no-suffix")
    names = ["a b'\".png", "é 数.png", "[1].png", "no-suffix"]
    assert gather(names) == names
    assert sorted(gather(["."])) == sorted(f"./{name}" for name in names[:3])


def test_a_glob_finds_files_and_folders_and_one_that_finds_nothing_is_kept() -> None:
    make("a/1.png", "a/2.png", "b/3.png", "b/deep/4.png")
    assert gather(["a/*.png"]) == ["a/1.png", "a/2.png"]
    assert gather(["**/[34].png"]) == ["b/3.png", "b/deep/4.png"]
    assert gather(["?"]) == ["a/1.png", "a/2.png", "b/3.png", "b/deep/4.png"]
    assert gather(["x*.png", "absent.png"]) == ["x*.png", "absent.png"]


def test_links_that_lead_in_a_circle_end() -> None:
    make("f/1.png", "f/in/2.png")
    os.symlink("..", "f/in/up")
    os.symlink("in", "f/twice")
    os.symlink("loop", "f/loop")
    os.symlink("nowhere", "f/dangling.png")
    result = gather(["f"])
    assert sorted(result) == ["f/1.png", "f/dangling.png", "f/in/2.png"]


def test_a_folder_named_like_an_image_is_a_folder() -> None:
    make("f/album.png/1.png")
    assert gather(["f"]) == ["f/album.png/1.png"]


def test_a_folder_whose_path_is_too_long_is_kept_as_a_file_that_cannot_be_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make("f/1.png")
    top = Path.cwd()
    monkeypatch.chdir("f")
    for _ in range(25):  # Linux takes paths of 4,095 bytes
        os.mkdir("d" * 200)
        os.chdir("d" * 200)
    os.chdir(top)
    first, too_long = gather([str(top / "f")])
    assert first == str(top / "f/1.png")
    with pytest.raises(OSError, match="too long"):
        os.stat(too_long)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read any folder")
def test_a_folder_that_may_not_be_read_is_kept_as_a_file_that_cannot_be() -> None:
    make("f/1.png")
    os.chmod("f", 0)
    assert gather(["f"]) == ["f"]


@pytest.mark.parametrize("separator", [b"\n", b"\0"])
def test_a_list_on_standard_input_may_name_what_an_argument_may(
    separator: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make("1.png", "f/2.png", os.fsdecode(b"not utf8 \xff.png"))
    listed = separator.join([b"1.png", b"f", b"not utf8 \xff.png", b"absent.png", b""])
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    result = gather(["-", "last.png"])
    assert result == ["1.png", "f/2.png", "not utf8 \udcff.png", "absent.png", "last.png"]


def test_a_name_with_a_newline_comes_through_a_list_ended_by_zero_bytes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"a\nb.png\0")))
    assert gather(["-"]) == ["a\nb.png"]


@pytest.mark.parametrize(
    "listed",
    [
        b"a.png\r\nb c.png\r\n",
        b"\xef\xbb\xbfa.png\r\nb c.png",
        "a.png\r\nb c.png\r\n".encode("utf-16"),
        b"a.png\nb c.png\n",
    ],
)
def test_a_list_may_come_from_windows(listed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    assert gather(["-"]) == ["a.png", "b c.png"]


def test_a_name_that_ends_in_a_carriage_return_is_believed_where_it_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make("odd\r")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"odd\r\nx.png\r\n")))
    assert gather(["-"]) == ["odd\r", "x.png"]


def test_what_is_passed_over_in_folders_is_named_by_its_suffix() -> None:
    make("f/1.jfif", "f/2.HEIC", "f/in/3.heic", "f/.x", "f/__MACOSX/4.png")
    others: list[str] = []
    assert gather(["f"], others) == ["f/1.jfif"]
    assert sorted(others) == [".HEIC", ".heic"]
