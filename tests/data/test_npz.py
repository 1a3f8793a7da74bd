"""NumPy archives in the layouts that people have, and what is refused of them."""

import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from image_files import encoded
from option_records import AdamConfig, ArraysConfig, MlpConfig
from tinylab import cli, data
from tinylab.config.identity import run_id
from tinylab.config.schema import Config, SplitConfig
from tinylab.data import npz, parts
from tinylab.data.arrays import DataAbsentError, Dataset
from tinylab.errors import UserError

Pixels = NDArray[np.uint8]


def pixels(*shape: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def saved(folder: Path, name: str = "x.npz", **arrays: Any) -> Path:
    np.savez(folder / name, **arrays)
    return folder / name


def read(folder: Path, image_size: int | None = None, **arrays: Any) -> Dataset:
    return npz.read(saved(folder, **arrays), image_size)


def refusal(folder: Path, image_size: int | None = None, **arrays: Any) -> str:
    with pytest.raises(UserError) as error:
        read(folder, image_size, **arrays)
    lines = str(error.value).splitlines()
    assert len(lines) <= 2
    assert str(folder / "x.npz") in lines[0]
    return str(error.value)


def medmnist(*shape: int) -> dict[str, Any]:
    """The arrays of a MedMNIST file: images (N, 28, 28[, 3]), labels uint8 (N, 1)."""
    made: dict[str, Any] = {}
    for seed, (part, count) in enumerate((("train", 20), ("val", 6), ("test", 8))):
        made[f"{part}_images"] = pixels(count, *(shape or (28, 28)), seed=seed)
        made[f"{part}_labels"] = (np.arange(count, dtype=np.uint8) % 2)[:, None]
    return made


# ---------------------------------------------------------------- layouts


def test_keras_layout_keeps_its_official_test_part(tmp_path: Path) -> None:
    train, test = pixels(12, 8, 8, 3), pixels(4, 8, 8, 3, seed=1)
    result = read(
        tmp_path, x_train=train, y_train=np.arange(12)[:, None] % 3,
        x_test=test, y_test=np.arange(4)[:, None] % 3,
    )  # fmt: skip
    assert (result.num_official_test, result.num_official_val) == (4, 0)
    assert (result.pixels == np.concatenate([train, test]).transpose(0, 3, 1, 2)).all()
    assert result.labels.tolist() == [*(i % 3 for i in range(12)), 0, 1, 2, 0]
    assert result.labels.dtype == np.int64
    assert result.classes == ("0", "1", "2")


@pytest.mark.parametrize("shape", [(28, 28), (28, 28, 3)])
def test_medmnist_layout_keeps_all_three_parts(shape: tuple[int, ...], tmp_path: Path) -> None:
    arrays = medmnist(*shape)
    config = ArraysConfig(file=str(saved(tmp_path, **arrays)))
    splits = data.load(config, SplitConfig())
    assert splits.split.val.tolist() == list(range(20, 26))
    assert splits.split.test.tolist() == list(range(26, 34))
    assert splits.official_val() == "validated on the official 6 validation images"
    expected = arrays["val_images"].reshape(6, 28, 28, -1).transpose(0, 3, 1, 2)
    assert (splits.data.pixels[splits.split.val] == expected).all()


@pytest.mark.parametrize("part", ["train", "val", "test"])
def test_medmnists_own_reader_sees_the_same(part: str, tmp_path: Path) -> None:
    medmnist_package = pytest.importorskip("medmnist", reason="medmnist is not installed")
    file = saved(tmp_path, "breastmnist.npz", **medmnist())
    theirs = medmnist_package.BreastMNIST(split=part, root=str(tmp_path), download=False)
    result = npz.read(file, None)
    start = {"train": 0, "val": 20, "test": 26}[part]
    for index in range(len(theirs.imgs)):
        image, label = theirs[index]
        assert (result.pixels[start + index, 0] == np.asarray(image)).all()
        assert result.labels[start + index] == label[0]


@pytest.mark.parametrize("names", [("images", "labels"), ("x", "y"), ("X", "Y")])
def test_a_plain_archive_has_no_official_parts(names: tuple[str, str], tmp_path: Path) -> None:
    result = read(tmp_path, **{names[0]: pixels(30, 8, 8), names[1]: np.arange(30) % 3})
    assert result.pixels.shape == (30, 1, 8, 8)
    assert (result.num_official_test, result.num_official_val) == (0, 0)


def test_an_archive_of_other_names_is_refused_with_what_it_holds(tmp_path: Path) -> None:
    said = refusal(tmp_path, pictures=pixels(4, 8, 8), targets=np.arange(4))
    assert "holds pictures, targets" in said
    assert "x_train and y_train, or train_images and train_labels, or images and labels" in said


def test_images_without_their_labels_are_refused(tmp_path: Path) -> None:
    train = {"x_train": pixels(4, 8, 8), "y_train": np.arange(4)}
    assert "only one of x_test and y_test" in refusal(tmp_path, **train, x_test=pixels(2, 8, 8))
    assert "only one of images and labels" in refusal(tmp_path, images=pixels(2, 8, 8))
    said = refusal(tmp_path, images=pixels(5, 8, 8), labels=np.arange(4))
    assert "expected as many labels as images" in said


# ---------------------------------------------------------------- shapes


@given(st.integers(2, 6), st.sampled_from([1, 3]), st.integers(4, 9))
def test_channels_are_found_first_and_last(N: int, C: int, S: int) -> None:
    images = pixels(N, C, S, S)
    for stored in (images, images.transpose(0, 2, 3, 1)):
        part = parts.Part(stored, np.zeros(N), "x", "y")
        assert (parts._channels_first(part) == images).all()


@pytest.mark.parametrize("shape", [(4, 3, 3, 3), (4, 3, 8, 1), (4, 1, 1, 3)])
def test_channels_that_may_be_either_are_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    said = refusal(tmp_path, images=pixels(*shape), labels=np.arange(4))
    assert "channels either first or last" in said


@pytest.mark.parametrize("shape", [(4, 64), (4, 8, 8, 4), (4, 8, 8, 8), (4, 8, 8, 8, 3)])
def test_what_is_no_gray_or_color_image_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    said = refusal(tmp_path, images=pixels(*shape), labels=np.arange(4))
    assert "expected (N, H, W), (N, H, W, C) or (N, C, H, W) with C 1 or 3" in said


def test_images_that_are_not_square_are_resized_only_if_a_size_is_given(tmp_path: Path) -> None:
    images = pixels(4, 6, 9, 3)
    assert "dataset.image_size=9 resizes them" in refusal(
        tmp_path, images=images, labels=np.arange(4)
    )
    result = read(tmp_path, 4, images=images, labels=np.arange(4))
    expected = cv2.resize(images[1], (4, 4), interpolation=cv2.INTER_AREA)
    assert (result.pixels[1] == expected.transpose(2, 0, 1)).all()


def test_larger_sizes_are_interpolated_linearly(tmp_path: Path) -> None:
    images = pixels(4, 6, 6)
    result = read(tmp_path, 9, images=images, labels=np.arange(4))
    expected = cv2.resize(images[2], (9, 9), interpolation=cv2.INTER_LINEAR)
    assert (result.pixels[2, 0] == expected).all()


def test_parts_of_different_shapes_are_refused(tmp_path: Path) -> None:
    parts = {"y_train": np.arange(4), "x_test": pixels(2, 6, 6), "y_test": np.arange(2)}
    said = refusal(tmp_path, x_train=pixels(4, 8, 8), **parts)
    assert "1x6x6, 1x8x8" in said
    assert read(tmp_path, 7, x_train=pixels(4, 8, 8), **parts).pixels.shape == (6, 1, 7, 7)
    assert "same number of channels" in refusal(tmp_path, 7, x_train=pixels(4, 8, 8, 3), **parts)


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_real_numbers_of_either_range_are_scaled_and_said(
    dtype: type, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, labels = pixels(9, 16, 16), np.arange(9)
    assert {images.min(), images.max()} == {0, 255}
    unit = read(tmp_path, images=(images / 255).astype(dtype), labels=labels)
    assert "floats from 0 to 1, interpreted as 0 to 1" in capsys.readouterr().out
    whole = read(tmp_path, images=images.astype(dtype), labels=labels)
    assert "floats from 0 to 255, interpreted as 0 to 255" in capsys.readouterr().out
    assert (unit.pixels[:, 0] == images).all()
    assert (whole.pixels[:, 0] == images).all()


def test_one_scale_is_for_all_parts(tmp_path: Path) -> None:
    result = read(
        tmp_path, x_train=np.full((4, 8, 8), 200.0), y_train=np.arange(4) % 2,
        x_test=np.full((2, 8, 8), 1.0), y_test=np.arange(2),
    )  # fmt: skip
    assert result.pixels.max(axis=(1, 2, 3)).tolist() == [200] * 4 + [1] * 2


@pytest.mark.parametrize("dtype", [np.int64, np.uint16, np.int8])
def test_whole_numbers_of_other_types_are_taken_as_they_are(dtype: type, tmp_path: Path) -> None:
    images = pixels(4, 8, 8) // 2
    result = read(tmp_path, images=images.astype(dtype), labels=np.arange(4))
    assert (result.pixels[:, 0] == images).all()


@pytest.mark.parametrize("odd", [-1.0, 255.5, np.nan, np.inf])
def test_values_that_are_no_pixels_are_refused(odd: float, tmp_path: Path) -> None:
    images = pixels(4, 8, 8).astype(np.float32)
    images[2, 3, 3] = odd
    assert "expected 0 to 255, or 0 to 1" in refusal(tmp_path, images=images, labels=np.arange(4))


def test_true_and_false_are_white_and_black(tmp_path: Path) -> None:
    result = read(tmp_path, images=pixels(4, 8, 8) > 99, labels=np.arange(4))
    assert np.unique(result.pixels).tolist() == [0, 255]


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        (np.array([3, 7, 3, 9]), ("3", "7", "9")),
        (np.array([[-1], [1], [-1], [1]]), ("-1", "1")),
        (np.array([0.0, 1.0, 2.0, 1.0]), ("0", "1", "2")),
        (np.array([True, False, True, True]), ("0", "1")),
        (np.array(["cat", "dog", "cat", "ape"]), ("ape", "cat", "dog")),
        (np.array([b"cat", b"dog", b"cat", b"ape"]), ("ape", "cat", "dog")),
    ],
)
def test_classes_are_the_sorted_labels(
    labels: NDArray[Any], classes: tuple[str, ...], tmp_path: Path
) -> None:
    result = read(tmp_path, images=pixels(4, 8, 8), labels=labels)
    assert result.classes == classes
    assert (np.unique(labels)[result.labels] == labels.ravel()).all()


@pytest.mark.parametrize(
    ("labels", "indices"),
    [([0, 2, 1, 0], [0, 2, 1, 0]), ([1, 3, 2, 1], [0, 2, 1, 0]), (list("bcab"), [0, 2, 1, 0])],
)
def test_named_classes_are_in_the_order_of_the_names(
    labels: list[Any], indices: list[int], tmp_path: Path
) -> None:
    names = np.array(["b", "a", "c"])
    result = read(tmp_path, images=pixels(4, 8, 8), labels=np.array(labels), classes=names)
    assert (result.classes, result.labels.tolist()) == (("b", "a", "c"), indices)


def test_names_that_do_not_fit_the_labels_are_refused(tmp_path: Path) -> None:
    images, names = pixels(4, 8, 8), np.array(["a", "b"])
    for labels in (np.arange(4), np.array(list("abcd"))):
        said = refusal(tmp_path, images=images, labels=labels, classes=names)
        assert "expected 0 to 1, or the names" in said
    twice = np.array(["a", "a", "b", "c"])
    assert "one array of distinct strings" in refusal(
        tmp_path, images=images, labels=np.arange(4), classes=twice
    )


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.eye(4), "one label per image"),
        (np.ones((4, 14), np.uint8), "multi-label data is not supported"),
        (np.array([0.5, 1, 2, 3]), "expected integers or strings"),
        (np.zeros(4), "at least two classes"),
    ],
)
def test_labels_that_are_no_classes_are_refused(
    labels: NDArray[Any], words: str, tmp_path: Path
) -> None:
    assert words in refusal(tmp_path, images=pixels(4, 8, 8), labels=labels)


# ---------------------------------------------------------------- files


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    labels = np.array(["a", None, "b", "c"], object)
    said = refusal(tmp_path, images=pixels(4, 8, 8), labels=labels)
    assert "labels cannot be read: Object arrays cannot be loaded" in said
    assert "Python objects are not unpickled" in said


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 and no more"])
def test_a_file_that_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz: (not an|a damaged) \.npz file"):
        npz.read(tmp_path / "x.npz", None)


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, images=pixels(40, 8, 8), labels=np.arange(40))
    content = bytearray(file.read_bytes())
    content[500] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"a damaged \.npz file: Bad CRC"):
        npz.read(file, None)


def test_an_absent_file_is_named() -> None:
    with pytest.raises(DataAbsentError, match=r"dataset\.file=nowhere\.npz: no such file"):
        data.load(ArraysConfig(file="nowhere.npz"), SplitConfig())
    with pytest.raises(UserError, match=r"dataset\.file=null: expected the \.npz file"):
        ArraysConfig()


def id_of(file: Path) -> str:
    config = Config(dataset=ArraysConfig(file=str(file)), model=MlpConfig(), optim=AdamConfig())
    return run_id(data.identified(config))


def test_name_and_folder_make_no_other_run_and_the_content_does(tmp_path: Path) -> None:
    file = saved(tmp_path, images=pixels(9, 8, 8), labels=np.arange(9) % 3)
    first = id_of(file)
    (tmp_path / "other").mkdir()
    assert id_of(shutil.copy(file, tmp_path / "other" / "y.npz")) == first
    other = saved(tmp_path, images=pixels(9, 8, 8, seed=1), labels=np.arange(9) % 3)
    assert id_of(other) != first


@pytest.mark.costly
@pytest.mark.parametrize("channels", [(), (3,)])
def test_a_run_can_be_trained_evaluated_and_used(
    channels: tuple[int, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    labels = np.arange(60) % 2
    images = np.where(labels[:, None, None] == 1, 200, 20) * np.ones((60, 12, 12))
    stored = np.repeat(images[..., None], 3, axis=3) if channels else images
    file = saved(tmp_path, images=stored.astype(np.uint8), labels=labels)
    outputs = tmp_path / "outputs"
    train = ["train", "dataset=arrays", f"dataset.file={file}", "model=mlp", "train.epochs=3"]
    assert cli.run([*train, "train.batch_size=8", f"outputs={outputs}"]) == 0
    [run] = (outputs / "runs").glob("arrays-mlp-*")
    light = tmp_path / "light.png"
    light.write_bytes(encoded(image=np.full((50, 40, 3), 200, np.uint8)))
    capsys.readouterr()
    assert cli.run(["predict", str(run), str(light), "--format", "csv"]) == 0
    assert f"{light},1," in capsys.readouterr().out
    assert cli.run(["evaluate", str(run), f"outputs={outputs}"]) == 0
    moved = file.rename(tmp_path / "moved.npz")
    other = ["dataset=arrays", f"dataset.file={moved}", f"outputs={outputs}"]
    assert cli.run(["evaluate", str(run), *other, "--part", "test"]) == 0


@pytest.mark.costly
def test_networks_of_other_sizes_are_not_averaged(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train = ["train", "dataset=arrays", "model=mlp", "train.epochs=1", "train.batch_size=8"]
    for side in (8, 12):
        name = f"{side}.npz"
        file = saved(tmp_path, name, images=pixels(60, side, side), labels=np.arange(60) % 2)
        assert cli.run([*train, f"dataset.file={file}", f"outputs={tmp_path}"]) == 0
    runs = [str(run) for run in (tmp_path / "runs").glob("arrays-*")]
    scan = tmp_path / "scan.png"
    scan.write_bytes(encoded())
    capsys.readouterr()
    assert cli.run(["predict", *runs, str(scan)]) == 1
    said = capsys.readouterr().err
    assert "take images of 1x" in said
    assert len(said.splitlines()) == 2
