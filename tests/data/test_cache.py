"""The cache of decoded arrays: quick, never stale, never wrong, never in the way."""

import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from option_records import DigitsConfig
from tinylab import data
from tinylab.data import cache
from tinylab.data.arrays import Dataset, Source, first_duplicates
from tinylab.data.cache import Decoded
from tinylab.errors import UserError

N = 2000  # enough that zipfile, which reads 4 KB at once, does not see every CRC by chance
TRUE = Dataset(
    pixels=np.random.default_rng(0).integers(0, 256, (N, 1, 4, 4), np.uint8),
    labels=np.arange(N) % 3,
    classes=("one", "zwei", "三"),
    num_official_test=5,
)


class Reader:
    """Reads TRUE, and counts how often."""

    times = 0

    def __call__(self) -> Dataset:
        self.times += 1
        return TRUE


def made_up(*files: Path, read: Reader | None = None, **preparation: object) -> Source:
    return Source("made-up", tuple(map(str, files)), dict(preparation), read or Reader())


def assert_true(decoded: Decoded) -> None:
    assert np.array_equal(decoded.dataset.pixels, TRUE.pixels)
    assert np.array_equal(decoded.dataset.labels, TRUE.labels)
    assert decoded.dataset.pixels.dtype == np.uint8
    assert decoded.dataset.labels.dtype == np.int64
    assert decoded.dataset.classes == TRUE.classes
    assert decoded.dataset.num_official_test == 5
    assert np.array_equal(decoded.first_duplicates, np.arange(N))
    assert decoded.fingerprint == TRUE.fingerprint()


def test_the_second_load_does_not_read(own_cache: Path) -> None:
    reader = Reader()
    for _ in range(3):
        assert_true(cache.load(made_up(read=reader)))
    assert reader.times == 1
    assert len(list(own_cache.iterdir())) == 1


def test_another_size_time_name_or_preparation_is_read_again(
    tmp_path: Path, own_cache: Path
) -> None:
    file, reader = tmp_path / "a", Reader()

    def times_read(path: Path = file, **preparation: object) -> int:
        cache.load(made_up(path, read=reader, **preparation))
        return reader.times

    file.write_text("12")
    os.utime(file, ns=(0, 10**18))
    assert times_read() == times_read() == 1
    file.write_text("123")
    os.utime(file, ns=(0, 10**18))
    assert times_read() == times_read() == 2
    os.utime(file, ns=(0, 10**18 + 1))
    assert times_read() == times_read() == 3
    assert times_read(image_size=8) == times_read(image_size=8) == 4
    assert times_read(file.rename(tmp_path / "b")) == 5


def test_a_file_replaced_by_one_of_equal_size_and_time_is_read_again(
    tmp_path: Path, own_cache: Path
) -> None:
    file, other, reader = tmp_path / "a", tmp_path / "b", Reader()
    for path, content in ((file, "12"), (other, "34")):
        path.write_text(content)
        os.utime(path, ns=(0, 10**18))
    cache.load(made_up(file, read=reader))
    other.replace(file)  # as an archive's unpacker does
    cache.load(made_up(file, read=reader))
    assert reader.times == 2
    file.write_text("56")  # in place
    os.utime(file, ns=(0, 10**18))
    cache.load(made_up(file, read=reader))
    assert reader.times == 3


def test_fresh_decodes_again_what_is_kept(own_cache: Path) -> None:
    reader = Reader()
    for fresh in (False, True, False, True):
        cache.load(made_up(read=reader), fresh)
    assert reader.times == 3


def test_another_dataset_has_another_file(own_cache: Path) -> None:
    cache.load(made_up())
    cache.load(replace(made_up(), dataset="other"))
    assert sorted(path.name.rpartition("-")[0] for path in own_cache.iterdir()) == [
        "made-up",
        "other",
    ]


def test_changed_reading_code_reads_again(
    own_cache: Path,
) -> None:
    reader = Reader()
    for version in ("old", "new", "new"):
        cache.load(replace(made_up(read=reader), code=version))
    assert reader.times == 2


# ---------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, bytes]]:
    """A cache folder of this module's: the file in it, and its bytes while they are right."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("whole")
        patch.setenv("XDG_CACHE_HOME", str(folder))
        cache.load(made_up())
        [file] = folder.rglob("*.npz")
        yield file, file.read_bytes()


@pytest.mark.costly
@settings(max_examples=150)
@given(
    flips=st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), min_size=1, max_size=3
    )
)
def test_flipped_bytes_never_give_wrong_arrays(
    whole: tuple[Path, bytes], flips: list[tuple[float, int]]
) -> None:
    file, content = whole
    damaged = bytearray(content)
    for place, flip in flips:
        damaged[int(place * len(content))] ^= flip
    file.write_bytes(damaged)
    assert cache.fingerprint(made_up()) in (None, TRUE.fingerprint())
    assert_true(cache.load(made_up()))
    assert cache.fingerprint(made_up()) == TRUE.fingerprint()


@given(kept=st.floats(0, 1, exclude_max=True))
def test_a_truncated_file_is_made_again(whole: tuple[Path, bytes], kept: float) -> None:
    file, content = whole
    file.write_bytes(content[: int(kept * len(content))])
    reader = Reader()
    assert cache.fingerprint(made_up()) is None
    assert_true(cache.load(made_up(read=reader)))
    assert reader.times == 1
    assert file.stat().st_size == len(content)


@pytest.mark.parametrize(
    ("header", "lie"),
    [
        (rb"\(2000, 1, 4, 4\)", b"(1000, 1, 4, 4)"),
        (rb"'<i8', 'fortran_order': False, 'shape': \(2000,\)", b"(1001,)"),
        (rb"\|u1", b"|i1"),
        (rb"<i8", b"<i4"),
        (rb"<i8", b"<u8"),
    ],
)
def test_a_header_that_asks_for_less_is_not_believed(
    whole: tuple[Path, bytes], header: bytes, lie: bytes
) -> None:
    file, content = whole
    match = re.search(header, content)
    assert match is not None
    damaged = content[: match.end() - len(lie)] + lie + content[match.end() :]
    assert len(damaged) == len(content)
    file.write_bytes(damaged)
    assert_true(cache.load(made_up()))


def test_a_file_that_is_no_archive_is_replaced(whole: tuple[Path, bytes]) -> None:
    file, content = whole
    for wrong in (b"", b"\0" * 10_000, b"PK\x05\x06" + bytes(18)):
        file.write_bytes(wrong)
        assert_true(cache.load(made_up()))
        assert file.stat().st_size == len(content)


# ---------------------------------------------------------------- two at once, and nowhere to write

CHILD = """
import sys
import numpy as np
from tinylab.data import cache
from tinylab.data.arrays import Dataset, Source, first_duplicates

def read():
    print("reading", flush=True)
    sys.stdin.readline()
    return Dataset(np.zeros((4, 1, 2, 2), np.uint8), np.array([0, 1, 0, 1]), ("a", "b"))

print(cache.load(Source("made-up", (), {}, read)).fingerprint)
"""


@pytest.mark.costly
def test_two_processes_that_build_at_once_agree(own_cache: Path) -> None:
    children = [
        subprocess.Popen(
            [sys.executable, "-c", CHILD],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "reading\n"  # neither has found anything
    said = [child.communicate("\n")[0] for child in children]
    assert said[0] == said[1]
    assert len(said[0].strip()) == 64
    assert [path.suffix for path in own_cache.iterdir()] == [".npz"]


def test_a_cache_folder_that_cannot_be_made_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    reader = Reader()
    for times in (1, 2):
        assert_true(cache.load(made_up(read=reader)))
        assert reader.times == times
    assert cache.fingerprint(made_up()) is None


def test_a_full_disk_leaves_nothing_behind(
    own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object, **_: object) -> None:
        file.write(b"the first part")  # type: ignore[attr-defined]
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    assert_true(cache.load(made_up()))
    assert list(own_cache.iterdir()) == []


def test_a_reader_that_fails_keeps_nothing(own_cache: Path) -> None:
    def fail() -> Dataset:
        raise UserError("damaged")

    with pytest.raises(UserError, match="damaged"):
        cache.load(replace(made_up(), read=fail))
    assert not own_cache.exists()


def test_the_cache_is_readable_by_whom_the_umask_allows(own_cache: Path) -> None:
    before = os.umask(0o027)
    try:
        cache.load(made_up())
    finally:
        os.umask(before)
    [file] = own_cache.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o640


# ---------------------------------------------------------------- the fingerprint alone


def test_the_fingerprint_is_known_without_reading(own_cache: Path) -> None:
    source = made_up()
    assert cache.fingerprint(source) is None
    cache.load(source)
    assert cache.fingerprint(source) == TRUE.fingerprint()


def test_the_fingerprint_of_a_dataset_is_that_of_its_images(own_cache: Path) -> None:
    assert data.fingerprint(DigitsConfig()) == data.fingerprint(DigitsConfig())
    assert len(list(own_cache.iterdir())) == 1


def test_everything_that_can_change_a_result_changes_the_fingerprint() -> None:
    pixels, labels = TRUE.pixels.copy(), TRUE.labels.copy()
    pixels[3, 0, 2, 1] ^= 1
    labels[4] = 0
    others = [
        replace(TRUE, pixels=pixels),
        replace(TRUE, pixels=TRUE.pixels.reshape(N, 1, 2, 8)),
        replace(TRUE, labels=labels),
        replace(TRUE, classes=("one", "zwei", "drei")),
        replace(TRUE, num_official_test=4),
    ]
    assert len({TRUE.fingerprint(), *(dataset.fingerprint() for dataset in others)}) == 6


def test_the_first_duplicate_is_the_first_image_with_the_same_pixels() -> None:
    pixels = TRUE.pixels.copy()
    pixels[7] = pixels[11] = pixels[2]
    pixels[19] = pixels[18]
    duplicates = first_duplicates(replace(TRUE, pixels=pixels).digests())
    expected = np.arange(N)
    expected[[7, 11, 19]] = 2, 2, 18
    assert duplicates.tolist() == expected.tolist()


def test_without_a_home_the_remedy_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "~nobody-of-this-name")
    with pytest.raises(UserError, match="or set TINYLAB_DATA and TINYLAB_CACHE"):
        cache.load(made_up())
