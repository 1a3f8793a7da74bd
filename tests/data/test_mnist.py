"""MNIST: the official files and no others, found or downloaded."""

import gzip
import hashlib
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from option_records import MnistConfig
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import download, mnist, part_of
from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError

NUM_TRAIN, NUM_TEST = 12, 4


def idx_files() -> dict[str, bytes]:
    """A small MNIST: image i is filled with i, labels count from 0 to 9 and again."""
    files = {}
    for part, first, count in (("train", 0, NUM_TRAIN), ("t10k", NUM_TRAIN, NUM_TEST)):
        numbers = np.arange(first, first + count, dtype=np.uint8)
        pixels = np.repeat(numbers, 28 * 28).tobytes()
        files[f"{part}-images-idx3-ubyte"] = struct.pack(">4i", 0x803, count, 28, 28) + pixels
        files[f"{part}-labels-idx1-ubyte"] = (
            struct.pack(">2i", 0x801, count) + (numbers % 10).tobytes()
        )
    return files


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """The small MNIST is the official one for the length of a test."""
    files = idx_files()
    for name, content in files.items():
        monkeypatch.setitem(mnist.FILES, name, hashlib.sha256(content).hexdigest())
    return files


@pytest.fixture
def config(small: dict[str, bytes], tmp_path: Path) -> MnistConfig:
    """The small MNIST in place, under tmp_path."""
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, content in small.items():
        (raw / name).write_bytes(content)
    return MnistConfig(root=str(tmp_path))


def first_file(config: MnistConfig) -> Path:
    return Path(part_of(config).find().files[0])


def test_training_images_come_first_and_the_official_test_set_last(config: MnistConfig) -> None:
    dataset = part_of(config).find().read()
    assert dataset.pixels.shape == (16, 1, 28, 28)
    assert dataset.pixels[:, 0, 14, 14].tolist() == list(range(16))
    assert dataset.labels.tolist() == [*range(10), 0, 1, 2, 3, 4, 5]
    assert dataset.labels.dtype == np.int64
    assert dataset.num_official_test == NUM_TEST


def test_a_size_of_32_puts_two_rows_and_columns_of_zeros_round(config: MnistConfig) -> None:
    config.image_size = 32
    images = part_of(config).find().read().pixels
    assert images.shape == (16, 1, 32, 32)
    assert (images[7, 0, 2:30, 2:30] == 7).all()
    assert images[7].sum() == 7 * 28 * 28


def test_a_truncated_file_is_refused_by_name(config: MnistConfig) -> None:
    file = first_file(config)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{file}: not the official MNIST file \(9,423 bytes, SHA"):
        part_of(config).find().read()


def test_one_wrong_byte_is_refused_and_no_file_is_to_be_deleted(config: MnistConfig) -> None:
    file = Path(part_of(config).find().files[3])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s){file}.*to an empty folder") as caught:
        part_of(config).find().read()
    assert "delete" not in str(caught.value)


LAYOUTS = {
    "packed": lambda name: f"MNIST/raw/{name}.gz",
    "dots": lambda name: f"MNIST/raw/{name.replace('-idx', '.idx')}",
    "dots and packed": lambda name: name.replace("-idx", ".idx") + ".gz",
    "a folder a file": lambda name: f"{name}/{name}",
    "dotted in a folder a file": lambda name: f"MNIST/{name}/{name.replace('-idx', '.idx')}",
    "in the root": lambda name: name,
    "in raw": lambda name: f"raw/{name}.gz",
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_the_files_are_found_in_every_layout_that_people_have(
    config: MnistConfig, small: dict[str, bytes], tmp_path: Path, layout: Callable[[str], str]
) -> None:
    root = tmp_path / "other"
    for name, content in small.items():
        file = root / layout(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(gzip.compress(content) if file.suffix == ".gz" else content)
    dataset = part_of(MnistConfig(root=str(root))).find().read()
    assert dataset.fingerprint() == part_of(config).find().read().fingerprint()


def test_a_damaged_gzip_file_is_named(small: dict[str, bytes], tmp_path: Path) -> None:
    for name, content in small.items():
        (tmp_path / f"{name}.gz").write_bytes(gzip.compress(content)[:-9])
    with pytest.raises(UserError, match=r"images-idx3-ubyte\.gz: not the official .* damaged gzip"):
        part_of(MnistConfig(root=str(tmp_path))).find().read()


def test_an_absent_file_is_data_that_can_be_fetched(config: MnistConfig) -> None:
    file = first_file(config)
    file.unlink()
    with pytest.raises(DataAbsentError, match=str(file)):
        part_of(config).find()


def test_a_file_that_vanishes_after_it_was_found_is_named(
    config: MnistConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = part_of(config).find()
    Path(source.files[1]).unlink()
    monkeypatch.setattr(mnist.Mnist, "find", lambda _: source)
    with pytest.raises(UserError, match=f"{source.files[1]}: cannot be read: No such file"):
        data.load(config, SplitConfig())


def test_the_data_root_is_found_by_the_environment(
    config: MnistConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINYLAB_DATA", str(config.root))
    assert first_file(MnistConfig()) == first_file(config)


def packed(files: dict[str, bytes]) -> dict[str, bytes]:
    """What a mirror offers."""
    return {f"{name}.gz": gzip.compress(content, mtime=0) for name, content in files.items()}


@pytest.fixture
def mirrors(small: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The list of mirrors, empty, for the small MNIST."""
    addresses: list[str] = []
    monkeypatch.setattr(mnist, "MIRRORS", addresses)
    return addresses


def test_absent_data_is_downloaded_without_a_bar_in_a_log_file(
    small: dict[str, bytes],
    mirrors: list[str],
    serve: Callable[..., str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    mirrors.append(serve(packed(small)))
    splits = data.load(MnistConfig(root=str(tmp_path)), SplitConfig(val=0))
    assert len(splits.split.test) == NUM_TEST
    said = capsys.readouterr()
    first, *others = said.out.splitlines()
    assert first == f"MNIST is not in {tmp_path}/MNIST/raw: downloading it (11 MB)"
    assert [line.split()[0] for line in others] == ["downloading"] * 4
    assert said.err == ""


def test_only_what_is_absent_is_downloaded(
    config: MnistConfig, small: dict[str, bytes], mirrors: list[str], serve: Callable[..., str]
) -> None:
    absent = first_file(config)
    absent.unlink()
    mirrors.append(serve({f"{absent.name}.gz": packed(small)[f"{absent.name}.gz"]}))
    assert len(data.load(config, SplitConfig(val=0)).data.labels) == 16


@pytest.mark.parametrize("there", [None, "holiday.jpg", "15-Scene/forest/1.jpg"])
def test_nothing_is_downloaded_into_a_root_that_was_mistyped(
    small: dict[str, bytes], mirrors: list[str], serve: Callable[..., str], tmp_path: Path,
    there: str | None,
) -> None:  # fmt: skip
    mirrors.append(serve(packed(small)))
    root = tmp_path / "mistyped"
    if there is not None:
        (root / there).parent.mkdir(parents=True)
        (root / there).write_bytes(b"")
    words = "no such folder" if there is None else "contains none of MNIST's files"
    assert f"dataset.root={root}: {words}" in refusal(root)
    assert not (root / "MNIST").exists()


def refusal(root: Path) -> str:
    """What the user reads where the download fails."""
    with pytest.raises(UserError) as error:
        data.load(MnistConfig(root=str(root)), SplitConfig())
    return str(error.value)


def test_mirrors_out_of_reach_name_the_folder_to_fill(
    small: dict[str, bytes], mirrors: list[str], serve: Callable[..., str], tmp_path: Path
) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        damaged = serve(dict.fromkeys(packed(small), b"not what it should be"))
        mirrors += [f"http://127.0.0.1:{closed.getsockname()[1]}/", damaged]
        first, remedy = refusal(tmp_path).splitlines()
    assert first.startswith("MNIST cannot be downloaded: http://127.0.0.1:")
    assert "refused" in first
    assert "gz: Not a gzipped file" in first
    assert f"into {tmp_path}/MNIST/raw, or set TINYLAB_DATA" in remedy


def test_a_silent_host_is_given_up(
    mirrors: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download, "TIMEOUT", 0.05)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirrors.append(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert "timed out" in refusal(tmp_path)
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_made_is_named(
    mirrors: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirrors.append("http://127.0.0.1:9/")
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path / "file"))
    with pytest.raises(UserError, match=f"(?s)MNIST cannot be.*into {tmp_path}/file/MNIST/raw"):
        data.load(MnistConfig(), SplitConfig())


def test_a_file_that_is_another_than_the_pinned_one_is_not_kept(
    small: dict[str, bytes], mirrors: list[str], serve: Callable[..., str], tmp_path: Path
) -> None:
    mirrors.append(serve(packed(dict.fromkeys(small, b"other bytes"))))
    assert "unexpected content (expected SHA-256" in refusal(tmp_path)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_the_real_mnist_is_whole_and_the_same_everywhere(real_data: Path) -> None:
    splits = data.load(MnistConfig(root=str(real_data)), SplitConfig())
    assert splits.data.pixels.shape == (70_000, 1, 28, 28)
    assert splits.split.test.tolist() == list(range(60_000, 70_000))
    assert (len(splits.split.train), len(splits.split.val)) == (54_000, 6_000)
    assert np.bincount(splits.data.labels[60_000:]).tolist() == [
        980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009,
    ]  # fmt: skip
    assert splits.fingerprint.startswith("a883d31568219826")
    assert splits.fingerprint == splits.data.fingerprint()


def test_no_two_images_of_the_real_mnist_are_equal(real_data: Path) -> None:
    assert data.load(MnistConfig(root=str(real_data)), SplitConfig()).duplicates() == ""


def test_the_real_mnist_is_found_where_tinylab_data_says(real_data: Path) -> None:
    assert os.environ["TINYLAB_DATA"] == str(real_data)
    assert first_file(MnistConfig()).is_relative_to(real_data)
