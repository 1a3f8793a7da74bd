"""`dataset=folder` from a person's photographs to a result, through the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from image_files import encoded, fill, picture
from option_records import FolderConfig
from tinylab import cli, data
from tinylab.config.schema import SplitConfig
from tinylab.errors import UserError

pytestmark = pytest.mark.costly

TINY = ["model=mlp", "model.hidden=4", "train.epochs=1", "train.batch_size=8", "dataset=folder"]
SIZES = {"My cat": 12, "dog's": 24, "Zürich": 36}


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with classes of unequal size, and names as people give them."""
    monkeypatch.chdir(tmp_path)
    seed = 0
    for name, size in SIZES.items():
        for number in range(size):
            image = picture(seed=seed, height=10 + number % 7, width=12)
            fill(tmp_path / "photos", f"{name}/IMG ({number}).png", content=encoded(image=image))
            seed += 1
    return tmp_path / "photos"


def train(photos: Path, *overrides: str) -> Path:
    """Train a little; returns the run's folder."""
    arguments = [f"dataset.root={photos}", "dataset.image_size=8", *overrides]
    assert cli.run(["train", *TINY, *arguments]) == 0
    return max(Path("outputs/runs").glob("folder-*"), key=lambda run: run.stat().st_mtime)


def test_predictions_name_the_files(photos: Path) -> None:
    run = train(photos)
    with np.load(run / "predictions.npz") as arrays:
        paths, labels = arrays["path"], arrays["label"]
    classes = json.loads((run / "result.json").read_text())["dataset"]["classes"]
    assert classes == ["My cat", "Zürich", "dog's"]
    assert len(paths) == len(labels) == 7
    for path, label in zip(paths, labels, strict=True):
        assert (photos / path).is_file()
        assert path.split("/")[0] == classes[label]


def test_classes_of_unequal_size_are_said_with_the_remedy(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train(photos, "split.stratified=true")
    said = capsys.readouterr().out
    words = "training images per class: 10 (My cat) to 29 (Zürich)"
    assert f"{words}; train.class_weights=balanced weighs them equally\n" in said
    train(photos, "split.stratified=true", "train.class_weights=balanced")
    assert f"{words}; weighed equally\n" in capsys.readouterr().out


def test_an_own_validation_part_is_said(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in SIZES:
        for number in range(5):
            image = encoded(image=picture(seed=900 + number))
            fill(photos.parent / "parts" / "val", f"{name}/{number}.png", content=image)
    photos.rename(photos.parent / "parts" / "train")
    run = train(photos.parent / "parts")
    assert "validated on the official 15 validation images" in capsys.readouterr().out
    result = json.loads((run / "result.json").read_text())
    assert [result["dataset"][f"num_{part}"] for part in ("train", "val", "test")] == [65, 15, 7]
    assert result["config"]["split"]["val"] == 0.1
    assert cli.run(["train", *TINY, f"dataset.root={photos.parent / 'parts'}",
                    "dataset.image_size=8", "split.val=null"]) == 0  # fmt: skip
    assert "already finished" in capsys.readouterr().out


def test_fresh_decodes_again(photos: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, is_decoded in (([], True), (["seed=1"], False), (["fresh=true"], True)):
        train(photos, *arguments)
        assert ("decoding images" in capsys.readouterr().out) == is_decoded


def test_nearly_black_images_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(20):
        dark = (picture(seed=number) // 10).astype("uint8")
        fill(tmp_path, f"{'ab'[number % 2]}/{number}.png", content=encoded(image=dark))
    where = [f"dataset.root={tmp_path}", "dataset.image_size=8", f"outputs={tmp_path}/.outputs"]
    assert cli.run(["train", *TINY, *where]) == 0
    said = capsys.readouterr().out
    assert "in all training images, red, green, blue: nearly black: check the files" in said


def test_nothing_is_said_of_classes_of_nearly_equal_size(photos: Path) -> None:
    config, stratified = FolderConfig(root=str(photos), image_size=8), SplitConfig(stratified=True)
    assert data.load(config, stratified).imbalance() != ""
    for name in ("Zürich", "dog's"):
        for file in [*(photos / name).iterdir()][16:]:
            file.unlink()
    assert data.load(config, stratified).imbalance() == ""


def test_class_weights_change_the_training_and_nothing_else(photos: Path) -> None:
    results = [
        json.loads((train(photos, *weights) / "result.json").read_text())
        for weights in ((), ("train.class_weights=balanced",))
    ]
    assert results[0]["weights_sha256"] != results[1]["weights_sha256"]
    assert results[0]["split_sha256"] == results[1]["split_sha256"]
    assert results[0]["dataset"] == results[1]["dataset"]


def test_a_class_of_which_none_is_left_to_train_on_is_refused(photos: Path) -> None:
    for file in [*(photos / "My cat").iterdir()][1:]:
        file.unlink()
    config = FolderConfig(root=str(photos), image_size=8)
    refused = []
    for seed in range(30):
        try:
            parts = data.load(config, SplitConfig(seed=seed)).split
            assert 0 in parts.train, "the only cat is trained on"
        except UserError as error:
            refused.append(str(error))
    assert refused, "the only cat was never outside the training set"
    assert refused[0].startswith("split.seed=")
    assert "none of the 1 images of class My cat is left for training\n" in refused[0]
    assert "split.stratified=true keeps class proportions" in refused[0]
    assert 0 in data.load(config, SplitConfig(stratified=True)).split.train


def test_a_stratified_split_is_not_asked_to_stratify(photos: Path) -> None:
    for file in [*(photos / "My cat").iterdir()][1:]:
        file.unlink()
    config = FolderConfig(root=str(photos), image_size=8)
    with pytest.raises(UserError, match=r"class My cat .*\n  add images of it, or lower") as error:
        data.load(config, SplitConfig(test=0.6, val=0.6, stratified=True))
    assert "stratified" not in str(error.value)


def test_a_table_trains_as_class_folders_do(photos: Path) -> None:
    by_folder = json.loads((train(photos) / "result.json").read_text())
    files = sorted(photos.rglob("*.png"))
    rows = [f'"{file.relative_to(photos)}","{file.parent.name}"' for file in files]
    (photos / "labels.csv").write_text("\n".join(["path,label", *rows]), encoding="utf-8")
    by_table = json.loads((train(photos, "fresh=true") / "result.json").read_text())
    assert by_table["dataset"] == by_folder["dataset"]
    assert by_table["weights_sha256"] == by_folder["weights_sha256"]


def test_wrong_photographs_end_without_a_traceback(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(photos, "My cat/broken.jpg", "dog's/empty.png", content=b"")
    assert cli.run(["train", *TINY, f"dataset.root={photos}"]) == 1
    said = capsys.readouterr()
    assert "  My cat/broken.jpg: the file is empty\n" in said.out
    assert "(and 1 more): cannot be read as an image" in said.err
    train(photos, "dataset.skip_bad=true")


def test_groups_of_a_column_are_kept_and_are_part_of_what_the_data_is(photos: Path) -> None:
    rows = [
        f"{file.relative_to(photos)},{file.parent.name},{number % 6}"
        for number, file in enumerate(sorted(photos.rglob("*.png")))
    ]
    table = photos / "labels.csv"
    table.write_text("\n".join(["path,label,camera", *rows]) + "\n")
    train(photos)
    grouped = train(photos, "split.group=camera")
    cameras = dict(row.rsplit(",", 1)[0:2] for row in rows)
    with np.load(grouped / "predictions.npz") as arrays:
        tested = {cameras[f"{path},{str(path).split('/')[0]}"] for path in arrays["path"]}
    assert len(tested) == 1
    table.write_text(table.read_text().replace(",5\n", ",4\n"))
    train(photos)
    assert len(list(grouped.parent.glob("folder-*"))) == 2, "the column decides nothing there"
    regrouped = train(photos, "split.group=camera")
    assert regrouped != grouped
    assert cli.run(["evaluate", str(regrouped)]) == 0
