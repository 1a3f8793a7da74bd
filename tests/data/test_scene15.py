"""15-Scene: fifteen class folders, however they are named; the real images and their blemishes."""

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from option_records import Scene15Config
from tinylab import data
from tinylab.config.schema import SplitConfig
from tinylab.data import part_of, scene15
from tinylab.data.arrays import DataAbsentError
from tinylab.errors import UserError

WORDS = [
    "bedroom", "CALsuburb", "industrial", "kitchen", "livingroom", "MITcoast", "MITforest",
    "MIThighway", "MITinsidecity", "MITmountain", "MITopencountry", "MITstreet",
    "MITtallbuilding", "PARoffice", "store",
]  # fmt: skip
NUMBERED = [f"{number:02}" for number in range(15)]


def gray_jpeg(brightness: int) -> bytes:
    return cv2.imencode(".jpg", np.full((20, 20), brightness, np.uint8))[1].tobytes()


def made_up(root: Path, classes: list[str]) -> Path:
    """Two images a class, as bright as the class's place in ``classes`` says."""
    for place, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for number in (1, 2):
            (root / name / f"image_{number:04}.jpg").write_bytes(gray_jpeg(10 * place))
    return root


@pytest.mark.parametrize("classes", [WORDS, NUMBERED], ids=["words", "numbered"])
def test_folders_in_words_and_numbered_ones_are_read(tmp_path: Path, classes: list[str]) -> None:
    dataset = part_of(Scene15Config(root=str(made_up(tmp_path, classes)))).find().read()
    assert dataset.pixels.shape == (30, 1, 32, 32)
    assert set(dataset.classes) == set(classes)
    for image, label in zip(dataset.pixels, dataset.labels, strict=True):
        assert abs(int(image.mean()) - 10 * classes.index(dataset.classes[label])) <= 1


def test_a_split_into_train_and_test_folders_has_15_classes_too(tmp_path: Path) -> None:
    made_up(tmp_path / "train", WORDS)
    made_up(tmp_path / "test", WORDS)
    assert part_of(Scene15Config(root=str(tmp_path))).find().read().num_official_test == 30


@pytest.mark.parametrize("count", [14, 16])
def test_another_number_of_classes_is_refused(tmp_path: Path, count: int) -> None:
    made_up(tmp_path, [f"{number:02}" for number in range(count)])
    with pytest.raises(UserError, match=f"{tmp_path}: found {count} class folders; expected 15-Sc"):
        part_of(Scene15Config(root=str(tmp_path))).find()


def test_an_absent_folder_is_data_that_can_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataAbsentError, match=f"{tmp_path}/no: not found; expected 15-Scene's 15"):
        part_of(Scene15Config(root=str(tmp_path / "no"))).find()


def test_nothing_is_downloaded_into_a_root_that_was_mistyped(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"dataset.root={tmp_path}/no: no such folder"):
        data.load(Scene15Config(root=str(tmp_path / "no")), SplitConfig())


def test_the_real_copy_is_the_pinned_one(real_data: Path) -> None:
    assert scene15.contents_sha256(real_data / "15-Scene") == scene15.CONTENTS


def test_absent_images_are_downloaded_into_the_data_root(
    tmp_path: Path, serve: Callable[..., str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name in NUMBERED:
            archive.writestr(f"15-Scene/{name}/1.jpg", gray_jpeg(99))
            archive.writestr(f"15-Scene/{name}/2.jpg", gray_jpeg(99))
    monkeypatch.setenv("TINYLAB_DATA", str(tmp_path / "data"))
    config = Scene15Config(url=serve({"scene.zip": packed.getvalue()}) + "scene.zip")
    splits = data.load(config, SplitConfig(train_per_class=1, val=0))
    assert len(splits.data.labels) == 30
    assert len(list((tmp_path / "data" / "15-Scene").iterdir())) == 15
    assert "differs from the copy used for the documented results" in capsys.readouterr().out


# ---------------------------------------------------------------- the real images

COUNTS = {
    "bedroom": 216, "coast": 360, "forest": 328, "highway": 260, "industrial": 311,
    "insidecity": 308, "kitchen": 210, "livingroom": 289, "mountain": 374, "office": 215,
    "opencountry": 410, "store": 315, "street": 292, "suburb": 241, "tallbuilding": 356,
}  # fmt: skip


@pytest.fixture
def real(real_data: Path) -> Scene15Config:
    return Scene15Config(root=str(real_data / "15-Scene"))


def test_the_real_15_scene_has_4485_images_in_the_known_classes(real: Scene15Config) -> None:
    dataset = data.load(real, SplitConfig()).data
    assert dataset.pixels.shape == (4485, 1, 32, 32)
    counts = np.bincount(dataset.labels).tolist()
    assert dict(zip(dataset.classes, counts, strict=True)) == COUNTS


def test_the_rule_of_the_source_text_leaves_448_to_test_and_4037_to_train(
    real: Scene15Config,
) -> None:
    parts = data.load(real, SplitConfig(test=0.1, val=0)).split
    assert (len(parts.train), len(parts.val), len(parts.test)) == (4037, 0, 448)


@pytest.mark.parametrize("image_size", [32, 200])  # 200: as the files are, without a resize
def test_18_pairs_of_equal_pixels_are_found_one_with_two_labels(
    real: Scene15Config, image_size: int
) -> None:
    real.image_size = image_size
    splits = data.load(real, SplitConfig())
    duplicates = np.flatnonzero(splits.first_duplicates != np.arange(4485))
    assert len(duplicates) == len(set(splits.first_duplicates[duplicates])) == 18
    labels = splits.data.labels
    assert (labels[duplicates] != labels[splits.first_duplicates[duplicates]]).sum() == 1
    assert splits.duplicates().startswith("18 duplicate images, 1 with different labels; in test")


def test_grouping_leaves_no_duplicate_of_a_test_image_in_training(real: Scene15Config) -> None:
    assert "in test and train 4, " in data.load(real, SplitConfig()).duplicates()
    grouped = data.load(real, SplitConfig(group_duplicates=True))
    assert "in test and train 0, in test and val 0, in val and train 0" in grouped.duplicates()
