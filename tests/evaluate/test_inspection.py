"""`tinylab inspect`: planted faults are found, with their files, on a page and in a CSV."""

import csv
import html.parser
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from option_records import DigitsConfig
from tinylab import cli, data
from tinylab.config.schema import SplitConfig
from tinylab.evaluate import looks
from tinylab.evaluate.alike import neighbors
from tinylab.evaluate.calibrate import fit_temperature
from tinylab.evaluate.inspection import calibrated
from tinylab.store.collect import collect

Capture = pytest.CaptureFixture[str]


def random_images(seed: int, num: int, side: int = 9) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (num, 1, side, side), dtype=np.uint8)


def test_sharpness_is_opencvs_laplacian() -> None:
    images = random_images(0, 5)
    for image, result in zip(images, looks.sharpness(images), strict=True):
        inner = cv2.Laplacian(image[0], cv2.CV_64F)[1:-1, 1:-1]
        assert result == pytest.approx(np.log1p(inner.var()))


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30))
def test_what_is_far_out_is_beyond_the_fences_and_ranked(numbers: list[float]) -> None:
    values = np.array(numbers)
    low, high = np.percentile(values, 25), np.percentile(values, 75)
    below, above = looks.far_out(values)
    reach = looks.FENCE * (high - low)
    assert sorted(values[below]) == sorted(v for v in values if v < low - reach) == [*values[below]]
    assert sorted(values[above]) == sorted(v for v in values if v > high + reach)
    assert [*values[above]] == sorted(values[above], reverse=True)


def test_the_neighbor_is_the_nearest_by_brute_force_and_no_copy() -> None:
    images = random_images(0, 30, side=8)
    images[7] = images[3]
    images[9] = np.clip(images[4].astype(int) + 3, 0, 255)
    duplicates = np.arange(30)
    duplicates[7] = 3
    result = neighbors(images, duplicates)
    flat = images.reshape(30, -1).astype(float)
    far = np.sqrt(np.square(flat[:, None] - flat).mean(axis=2))
    far[duplicates[:, None] == duplicates] = np.inf
    assert np.array_equal(result.nearest, far.argmin(axis=1))
    assert result.distance == pytest.approx(far.min(axis=1), abs=0.02)
    assert np.flatnonzero(result.near).tolist() == [4, 9]


def test_smoothed_labels_and_means_over_networks_change_no_calibrated_probability() -> None:
    rng = np.random.default_rng(0)
    logits, times = rng.normal(size=(200, 3)), np.repeat([1, 5], 100)
    labels = np.where(rng.random(200) < 0.8, logits.argmax(axis=1), 0)
    expected = np.concatenate(
        [softmax(part / fit_temperature(part, own), axis=1)
         for part, own in zip(np.split(logits, 2), np.split(labels, 2), strict=True)]
    )  # fmt: skip
    assert calibrated(logits, labels, times) == pytest.approx(expected)
    milder = logits / times[:, None]
    assert calibrated(milder, labels, times) == pytest.approx(expected)


@pytest.fixture(scope="module")
def planted(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cross-validation of digits with wrong labels, copies and a white image among them."""
    folder = tmp_path_factory.mktemp("planted")
    dataset = data.load(DigitsConfig(), SplitConfig()).data
    for index in range(600):
        label = int(dataset.labels[index])
        if index % 50 == 0:
            label = (label + 3) % 10
        place = folder / "images" / str(label)
        place.mkdir(parents=True, exist_ok=True)
        name = f"{index}-wrong.png" if index % 50 == 0 else f"{index}.png"
        cv2.imwrite(str(place / name), dataset.pixels[index, 0])
    copied = dataset.pixels[1, 0]
    cv2.imwrite(str(folder / "images" / "1" / "same.png"), copied)
    cv2.imwrite(str(folder / "images" / "2" / "torn.png"), copied)
    nearly = np.maximum(dataset.pixels[11, 0], 3)
    cv2.imwrite(str(folder / "images" / "1" / "nearly.png"), nearly)
    cv2.imwrite(str(folder / "images" / "1" / "white.png"), np.full((8, 8), 255, np.uint8))
    words = ["dataset=folder", f"dataset.root={folder / 'images'}", "dataset.image_size=8",
             "dataset.grayscale=true", "model=mlp", "train.epochs=12", "split.folds=3",
             "name=cv", f"outputs={folder}"]  # fmt: skip
    assert cli.run(["inspect", *words]) == 0
    assert (folder / "sweeps" / "cv" / "inspect.html").exists()
    return folder / "sweeps" / "cv"


class Text(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sources: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.sources += [value or "" for name, value in attrs if name in ("src", "href")]

    def handle_data(self, data: str) -> None:
        self.words += data.split()


def test_planted_faults_are_found(planted: Path, capsys: Capture) -> None:
    capsys.readouterr()
    assert cli.run(["inspect", str(planted)]) == 0
    said = capsys.readouterr().out
    assert "604 of 604 images were predicted by 3 runs not trained on them" in said
    assert "images of 8x8 pixels are too small to distinguish blur from thick strokes" in said
    assert "2 exact pairs, 1 near-duplicates; 1 with two labels" in said
    assert " of which one is tested in a fold while the other trains\n" in said
    accuracies = [run.result.test.accuracy for run in collect([planted])[0]]
    assert f"; mean test accuracy {np.mean(accuracies):.2%}\n" in said
    chapter = Path(__file__).parents[2] / "docs" / "insight.md"
    title = chapter.read_text(encoding="utf-8").splitlines()[0].removeprefix("# ")
    remedy = "correct or move the files, or save a corrected copy of the data"
    assert f"look at the page; {remedy} (documentation: {title})\n" in said
    with (planted / "inspect.csv").open() as file:
        rows = list(csv.DictReader(file))
    errors = [row["file"] for row in rows if row["kind"] == "label"]
    right = [name for name in errors if "wrong" in name]
    assert len(right) >= 9, "of 12 images"
    assert len(right) >= len(errors) * 0.6
    copies = {frozenset((row["file"], row["other_file"])) for row in rows
              if row["kind"] == "identical"}  # fmt: skip
    first = "1/1.png"
    assert copies == {frozenset((first, "1/same.png")), frozenset((first, "2/torn.png"))}
    near = [{row["file"], row["other_file"]} for row in rows if row["kind"] == "near"]
    assert near == [{"1/11.png", "1/nearly.png"}]
    assert "1/white.png" in [row["file"] for row in rows if row["kind"] == "light"]
    page = Text()
    page.feed((planted / "inspect.html").read_text())
    assert "1/white.png" in page.words
    assert f"Look at each image; then {remedy} (documentation: {title})." in " ".join(page.words)
    assert all(source.startswith("data:image/png") for source in page.sources)


def test_the_report_of_a_cross_validation_pools_its_folds(planted: Path) -> None:
    page = Text()
    page.feed((planted / "report.html").read_text())
    said = " ".join(page.words)
    assert "all 3 folds pooled" in said
    assert any(word.endswith(".png") and "/" in word for word in page.words), "file names"
    assert "risk-coverage" in said


def test_what_cannot_be_inspected_is_refused(
    planted: Path, digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.run(["inspect", str(planted), str(digits_run)]) == 1
    assert "were trained on different images" in capsys.readouterr().err
    assert cli.run(["inspect", str(tmp_path)]) == 1
    assert "no finished run" in capsys.readouterr().err


def test_keys_of_a_cross_validation_are_no_folders(planted: Path, capsys: Capture) -> None:
    assert cli.run(["inspect", str(planted), "model=mlp"]) == 1
    assert "expected folders of finished runs, or config keys" in capsys.readouterr().err
    assert cli.run(["inspect", "model=mpl"]) == 1
    assert "did you mean 'mlp'" in capsys.readouterr().err


@pytest.mark.costly
def test_a_fold_that_validates_counts_beside_the_official_test_set(
    tmp_path: Path, capsys: Capture
) -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    labels = np.arange(60) % 2
    np.savez(tmp_path / "data.npz", x_train=images[:50], y_train=labels[:50],
             x_test=images[50:], y_test=labels[50:])  # fmt: skip
    words = ["dataset=arrays", f"dataset.file={tmp_path / 'data.npz'}", "model=mlp",
             "train.epochs=1", "split.folds=5", "split.fold=2", f"outputs={tmp_path}"]  # fmt: skip
    assert cli.run(["train", *words]) == 0
    capsys.readouterr()
    assert cli.run(["inspect", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 0
    assert "20 of 60 images were predicted by 1 run not trained on them" in capsys.readouterr().out
    with (tmp_path / "page.csv").open() as file:
        names = {row["file"] for row in csv.DictReader(file)}
    assert any(name.startswith("test image ") for name in names), names


def test_one_run_covers_the_images_it_was_tested_on(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.run(["inspect", str(digits_run), "--out", str(tmp_path / "page.html")]) == 0
    said = capsys.readouterr().out
    assert "179 of 1,797 images were predicted by 1 run not trained on them; test acc" in said
    assert " with only one of the two in the test set\n" in said
    assert (tmp_path / "page.csv").exists()
