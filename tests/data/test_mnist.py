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
from tinylab.data import mnist, part_of
from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError
from tinylab.system.torchvision import import_torchvision

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
        monkeypatch.setitem(mnist.FILES, name, hashlib.md5(content).hexdigest())
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
    images = part_of(config).find().read()
    assert images.images.shape == (16, 1, 28, 28)
    assert images.images[:, 0, 14, 14].tolist() == list(range(16))
    assert images.labels.tolist() == [*range(10), 0, 1, 2, 3, 4, 5]
    assert images.labels.dtype == np.int64
    assert images.num_official_test == NUM_TEST


def test_a_size_of_32_puts_two_rows_and_columns_of_zeros_round(config: MnistConfig) -> None:
    config.image_size = 32
    images = part_of(config).find().read().images
    assert images.shape == (16, 1, 32, 32)
    assert (images[7, 0, 2:30, 2:30] == 7).all()
    assert images[7].sum() == 7 * 28 * 28


def test_a_truncated_file_is_refused_by_name(config: MnistConfig) -> None:
    file = first_file(config)
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(UserError, match=rf"{file}: not the official MNIST file \(9,423 bytes, MD5"):
        part_of(config).find().read()


def test_one_wrong_byte_is_refused_with_the_remedy(config: MnistConfig) -> None:
    file = Path(part_of(config).find().files[3])
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=rf"(?s){file}.*delete it and repeat the command"):
        part_of(config).find().read()


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
    """torchvision's list of mirrors, empty, for the small MNIST."""
    sums = [(name, hashlib.md5(content).hexdigest()) for name, content in packed(small).items()]
    module = import_torchvision("torchvision.datasets.mnist")
    monkeypatch.setattr(module.MNIST, "resources", sums)
    addresses: list[str] = []
    monkeypatch.setattr(module.MNIST, "mirrors", addresses)
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
    assert said.out == f"MNIST is not in {tmp_path}/MNIST/raw: downloading it (11 MB)\n"
    assert said.err == ""


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
    assert first.startswith("MNIST cannot be downloaded: Error downloading train-images-idx3")
    assert "refused" in first
    assert "corrupted" in first
    assert f"into {tmp_path}/MNIST/raw, or set TINYLAB_DATA" in remedy


def test_a_silent_host_is_given_up(
    mirrors: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mnist, "TIMEOUT", 0.05)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        mirrors.append(f"http://127.0.0.1:{silent.getsockname()[1]}/")
        assert "timed out" in refusal(tmp_path)
    assert socket.getdefaulttimeout() is None


def test_a_folder_that_cannot_be_made_is_named(mirrors: list[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    said = refusal(tmp_path / "file")
    assert said.startswith("MNIST cannot be downloaded: ")
    assert f"into {tmp_path}/file/MNIST/raw" in said


def test_the_real_mnist_is_whole_and_the_same_everywhere(real_data: Path) -> None:
    splits = data.load(MnistConfig(root=str(real_data)), SplitConfig())
    assert splits.data.images.shape == (70_000, 1, 28, 28)
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
