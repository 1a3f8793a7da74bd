"""`tinylab predict`: the classes of the run itself, all kinds of files, nothing lost on the way."""

import csv
import io
import json
import re
import weakref
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from option_records import DigitsConfig, MnistConfig
from run_folders import finished
from tinylab import cli, data
from tinylab.config.schema import SplitConfig
from tinylab.errors import UserError
from tinylab.inference import load_ensemble, the_run
from tinylab.predict import classify as classifying
from tinylab.predict import pictures
from tinylab.predict.pictures import Picture
from tinylab.ui.console import printable

Capture = pytest.CaptureFixture[str]


def write_images(folder: Path, images: NDArray[np.uint8]) -> None:
    """0.png, 1.png, ..."""
    folder.mkdir()
    for number, image in enumerate(images):
        cv2.imwrite(str(folder / f"{number}.png"), image)


@pytest.fixture(scope="module")
def digits_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The 179 test images of digits as files."""
    splits = data.load(DigitsConfig(), SplitConfig())
    folder = tmp_path_factory.mktemp("files") / "digits"
    write_images(folder, splits.data.pixels[splits.split.test, 0])
    return folder


def predict(capsys: Capture, *arguments: object) -> list[dict[str, str]]:
    """The rows of ``tinylab predict --format csv``."""
    capsys.readouterr()
    assert cli.run(["predict", *map(str, arguments), "--format", "csv"]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


def drawing(gray: NDArray[np.uint8], ink: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Gray ink amounts, 0 to 255, as colored ink on a colored page."""
    amount = gray[..., None] / 255
    return np.rint(np.array((225, 240, 235)) * (1 - amount) + np.array(ink) * amount).astype("u1")


def drawn_one() -> NDArray[np.uint8]:
    page = np.zeros((500, 350), np.uint8)
    cv2.line(page, (130, 200), (190, 120), 255, 30, cv2.LINE_AA)
    cv2.line(page, (190, 120), (180, 400), 255, 34, cv2.LINE_AA)
    return page


def drawn_zero() -> NDArray[np.uint8]:
    page = np.zeros((500, 350), np.uint8)
    cv2.ellipse(page, (180, 240), (75, 120), 4, 0, 360, 255, 30, cv2.LINE_AA)
    return page


def test_test_images_written_as_files_get_the_classes_of_the_run(
    digits_run: Path, digits_files: Path, capsys: Capture
) -> None:
    rows = predict(capsys, digits_run, digits_files)
    with np.load(digits_run / "predictions.npz") as run:
        assert [int(row["class_1"]) for row in rows] == run["predicted"].tolist()
        best = run["probabilities"].max(axis=1)
    assert np.abs([float(row["probability_1"]) for row in rows] - best).max() < 1e-3
    assert [Path(row["file"]).name for row in rows] == [f"{n}.png" for n in range(179)]
    assert {(row["inverted"], row["fitted"], row["error"]) for row in rows} == {("no", "no", "")}


@pytest.mark.parametrize(("draw", "digit"), [(drawn_zero, "0"), (drawn_one, "1")])
def test_a_drawn_digit_is_recognised(
    draw: Callable[[], NDArray[np.uint8]], digit: str, digits_run: Path, tmp_path: Path,
    capsys: Capture,
) -> None:  # fmt: skip
    cv2.imwrite(str(tmp_path / "scan.jpg"), drawing(draw(), ink=(120, 40, 20)))
    cv2.imwrite(str(tmp_path / "chalk.png"), draw())
    rows = predict(capsys, digits_run, tmp_path / "scan.jpg", tmp_path / "chalk.png")
    assert [(row["class_1"], row["inverted"], row["fitted"]) for row in rows] == [
        (digit, "yes", "yes"),
        (digit, "no", "yes"),
    ]


def test_what_is_no_image_by_its_name_is_counted(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "a.HEIC").write_bytes(b"")
    assert cli.run(["predict", str(digits_run), str(tmp_path)]) == 1
    said = "no image files to classify (skipped files without an image suffix: 1 .heic)"
    assert said in capsys.readouterr().err
    cv2.imwrite(str(tmp_path / "two.png"), np.hstack([255 - drawn_zero()] * 2))
    [row] = predict(capsys, digits_run, tmp_path)
    assert (row["inverted"], row["fitted"], row["several"]) == ("yes", "yes", "yes")
    assert cli.run(["predict", str(digits_run), str(tmp_path)]) == 0
    said = capsys.readouterr().err
    assert "skipped files without an image suffix: 1 .heic" in said
    assert "several: 1 (several digits in one picture" in said


def test_it_is_said_by_what_the_ink_was_judged(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    scan = str(tmp_path / "scan.png")
    cv2.imwrite(scan, drawing(drawn_one(), ink=(40, 20, 20)))
    for options, is_judged in (([], True), (["--invert", "yes"], False)):
        assert cli.run(["predict", str(digits_run), scan, *options]) == 0
        err = capsys.readouterr().err
        assert "inverted: 1 (dark ink on a light background" in err
        assert ("by the border" in err) == is_judged


@pytest.fixture(scope="module")
def mnist_run(real_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of seconds on a thousand images of MNIST, which is never fetched for a test."""
    outputs = tmp_path_factory.mktemp("mnist")
    small = ["split.train_per_class=100", "model=mlp", "model.hidden=64", "train.epochs=5"]
    assert cli.run(["train", "dataset=mnist", *small, f"outputs={outputs}"]) == 0
    [result] = outputs.glob("runs/*/result.json")
    return result.parent


def mnist_test_images(count: int) -> NDArray[np.uint8]:
    return data.load(MnistConfig(), SplitConfig()).data.pixels[60_000 : 60_000 + count, 0]


def test_mnist_written_as_files_gets_the_classes_of_the_run(
    real_data: Path, mnist_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_images(tmp_path / "png", mnist_test_images(300))
    rows = predict(capsys, mnist_run, tmp_path / "png")
    with np.load(mnist_run / "predictions.npz") as run:
        assert [int(row["class_1"]) for row in rows] == run["predicted"][:300].tolist()


def photograph(digit: NDArray[np.uint8], seed: int) -> NDArray[np.uint8]:
    """Dark ink somewhere on a large sheet in uneven light, with noise."""
    generator = np.random.default_rng(seed)
    side = int(300 * generator.uniform(0.3, 0.7))
    ink = np.zeros((300, 300))
    top, left = generator.integers(0, 300 - side, 2)
    ink[top : top + side, left : left + side] = cv2.resize(digit, (side, side)) / 255
    rows, columns = np.mgrid[:300, :300] / 300
    light = 180 + generator.uniform(-60, 60) * rows + generator.uniform(-60, 60) * columns
    noisy = light * (1 - 0.7 * ink) + generator.normal(0, 6, (300, 300))
    return noisy.clip(0, 255).astype(np.uint8)


def test_photographs_of_mnist_digits_are_recognised_nearly_as_well(
    real_data: Path, mnist_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    images = mnist_test_images(300)
    write_images(tmp_path / "plain", images)
    photographs = np.stack([photograph(image, seed) for seed, image in enumerate(images)])
    write_images(tmp_path / "photographs", photographs)
    labels = data.load(MnistConfig(), SplitConfig()).data.labels[60_000:60_300]
    right = {}
    for name in ("plain", "photographs"):
        rows = predict(capsys, mnist_run, tmp_path / name)
        right[name] = np.mean([int(row["class_1"]) for row in rows] == labels)
    assert all(row["inverted"] == row["fitted"] == "yes" for row in rows)
    assert right["plain"] > 0.8
    assert right["photographs"] > right["plain"] - 0.03


def test_what_cannot_be_read_is_listed_and_counted_and_the_rest_predicted(
    digits_run: Path, digits_files: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("hello")
    files = [str(digits_files / "3.png"), str(tmp_path), "absent.png", str(digits_files / "4.png")]
    for style in ("table", "csv", "json"):
        assert cli.run(["predict", str(digits_run), *files, "--format", style]) == 1
        captured = capsys.readouterr()
        assert captured.out.count("3.png") == captured.out.count("4.png") == 1
        assert f"cannot be read: {tmp_path / 'empty.png'}: the file is empty" in captured.err
        assert "cannot be read: absent.png: No such file or directory" in captured.err
        assert captured.err.splitlines()[-1] == (
            "tinylab: 3 of 5 files cannot be read (listed above)"
        )
        assert "Traceback" not in captured.err


def test_the_formats_say_the_same(digits_run: Path, digits_files: Path, capsys: Capture) -> None:
    files = [str(digits_files / f"{number}.png") for number in range(20)]
    rows = predict(capsys, digits_run, *files, "--top", 10)
    assert cli.run(["predict", str(digits_run), *files, "--top", "99", "--format", "json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    assert cli.run(["predict", str(digits_run), *files]) == 0
    captured = capsys.readouterr()
    lines = captured.out.splitlines()
    assert "test accuracy" in captured.err, "what is said beside the predictions is not piped on"
    assert len(rows) == len(objects) == len(lines) == 20
    for row, result, line in zip(rows, objects, lines, strict=True):
        probabilities = [entry["probability"] for entry in result["classes"]]
        assert probabilities == sorted(probabilities, reverse=True)
        assert abs(sum(probabilities) - 1) < 1e-4
        assert len(probabilities) == 10, "there are no more classes than that"
        for rank, entry in enumerate(result["classes"], start=1):
            assert entry["class"] == row[f"class_{rank}"]
            assert entry["probability"] == float(row[f"probability_{rank}"])
        words = line.split()
        assert words[::2][:3] == [entry["class"] for entry in result["classes"][:3]]
        assert words[6] == row["file"] == result["file"]


def test_nothing_but_a_fault_is_valid_json_too(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    assert cli.run(["predict", str(digits_run), "absent.png", "--format", "json"]) == 1
    assert json.loads(capsys.readouterr().out) == [
        {"file": "absent.png", "error": "No such file or directory"}
    ]


def test_several_runs_are_an_ensemble(
    digits_run: Path, digits_files: Path, tmp_path: Path, capsys: Capture
) -> None:
    tiny = ["train.epochs=1", "model=mlp", "train.batch_size=128", f"outputs={tmp_path}"]
    assert cli.run(["train", *tiny]) == 0
    [other] = (tmp_path / "runs").glob("digits-mlp-*")
    probabilities = []
    for runs in ([digits_run], [other], [digits_run, other]):
        rows = predict(capsys, *runs, digits_files, "--top", 10)
        by_class = [
            {row[f"class_{n}"]: row[f"probability_{n}"] for n in range(1, 11)} for row in rows
        ]
        probabilities.append(
            np.array([[float(row[name]) for name in "0123456789"] for row in by_class])
        )
    assert np.abs((probabilities[0] + probabilities[1]) / 2 - probabilities[2]).max() < 2e-6
    assert np.abs(probabilities[0] - probabilities[1]).max() > 0.1


def test_files_are_listed_on_standard_input_and_found_by_globs(
    digits_run: Path, digits_files: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = f"{digits_files}/1.png\n{digits_files}/2.png\n".encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed)))
    rows = predict(capsys, digits_run, "-", f"{digits_files}/17?.png")
    names = [Path(row["file"]).name for row in rows]
    assert names == ["1.png", "2.png", *(f"{number}.png" for number in range(170, 179))]


def test_names_of_any_kind_are_shown_safely(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    names = ["a b.png", 'it\'s "$x^$".png', "数字 é.png", "new\nline.png", "\x1b[31mred.png"]
    for name in names:
        (tmp_path / name).write_bytes(cv2.imencode(".png", drawn_zero())[1].tobytes())
    (tmp_path / "x\udcff.png").write_bytes(b"")
    assert cli.run(["predict", str(digits_run), str(tmp_path), "--sheet", f"{tmp_path}/s.png"]) == 1
    captured = capsys.readouterr()
    assert "\x1b" not in captured.out
    assert len(captured.out.splitlines()) == len(names)
    assert "x\\udcff.png: the file is empty" in captured.err
    assert cli.run(["predict", str(digits_run), *(f"{tmp_path}/{name}" for name in names),
                    "--format", "csv"]) == 0  # fmt: skip
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [Path(row["file"]).name for row in rows] == names


@given(st.text())
def test_a_printed_name_is_one_line_of_printable_letters(name: str) -> None:
    assert printable(name).isprintable()
    assert name.isprintable() <= (printable(name) == name)


def test_a_sheet_shows_what_the_network_saw(
    digits_run: Path, digits_files: Path, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    sheet = tmp_path / "new folder" / "sheet.png"
    predict(capsys, digits_run, digits_files, "--sheet", sheet)
    full = cv2.imread(str(sheet))
    assert full.shape[0] > 20 * 100, "179 images are 23 rows"
    monkeypatch.setattr("tinylab.commands.predict_job.SHEET", 10)
    predict(capsys, digits_run, digits_files, "--sheet", sheet)
    assert cv2.imread(str(sheet)).shape[0] < full.shape[0] / 5


class Alive:
    """Counts the pictures that are held at a time."""

    def __init__(self) -> None:
        self.pictures: list[weakref.ref[Picture]] = []
        self.most = 0

    def watch(self, read: Callable[[Path], Picture]) -> Callable[[Path], Picture]:
        def watched(file: Path) -> Picture:
            picture = read(file)
            self.pictures = [old for old in self.pictures if old() is not None]
            self.pictures.append(weakref.ref(picture))
            self.most = max(self.most, len(self.pictures))
            return picture

        return watched


def test_memory_is_flat_over_two_thousand_files(
    digits_run: Path, digits_files: Path, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Of 2,000 files no more pictures are held than two batches and the sheet take."""
    monkeypatch.setattr(classifying, "BATCH_SIZE", 64)
    monkeypatch.setattr("tinylab.commands.predict_job.SHEET", 16)
    alive, reader = Alive(), pictures.reader
    monkeypatch.setattr(pictures, "reader", lambda *options: alive.watch(reader(*options)))
    files = [digits_files / f"{number % 179}.png" for number in range(2000)]
    rows = predict(capsys, digits_run, *files, "--sheet", tmp_path / "sheet.png")
    assert len(rows) == 2000
    assert 64 <= alive.most <= 2 * 64 + 16


def test_batches_do_not_matter(
    digits_run: Path, digits_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ensemble = load_ensemble([the_run(digits_run)], "cpu")
    read = pictures.reader(ensemble.first.config.dataset, "auto")
    files = [*(str(digits_files / f"{number}.png") for number in range(10)), "absent"]
    probabilities = []
    for size in (1, 3, 11, 100):
        monkeypatch.setattr(classifying, "BATCH_SIZE", size)
        result = list(classifying.classify(ensemble, files, read))
        assert [each.file for each in result] == files
        assert result[-1].picture is None
        probabilities.append(np.stack([each.probabilities for each in result[:-1]]))
    assert np.ptp(probabilities, axis=0).max() < 1e-6


WRONG = {
    "no run": (["nowhere", "x.png"], ["nowhere", "expected the folder of a finished run"]),
    "no path": (["{run}"], ["no image files given"]),
    "only runs": (["{run}", "{run}"], ["no image file"]),
    "empty folder": (["{run}", "{empty}"], ["empty", "no image file"]),
    "no class shown": (["{run}", "x.png", "--top", "0"], ["--top 0", "1 or more"]),
    "sheet of another kind": (["{run}", "x.png", "--sheet", "s.jpg"], ["s.jpg", ".png"]),
    "unknown format": (["{run}", "x.png", "--format", "xml"], ["xml", "csv"]),
    "absent device": (["{run}", "x.png", "--device", "cuda:7"], ["cuda:7", "cpu"]),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_refused_in_words(
    arguments: list[str], said: list[str], digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [word.format(run=digits_run, empty=tmp_path / "empty") for word in arguments]
    assert cli.run(["predict", *filled]) == 1
    error = capsys.readouterr().err.strip()
    for words in said:
        assert words in error
    assert "Traceback" not in error
    assert not (Path("s.jpg")).exists()


def test_an_image_before_the_run_is_refused_with_the_right_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.chdir(tmp_path)
    run = finished(Path("outputs"))
    Path("my seven.png").touch()
    for more, dots in (([], ""), (["eight.png"], " ...")):
        assert cli.run(["predict", "my seven.png", *more, str(run)]) == 1
        assert capsys.readouterr().err == (
            "tinylab: my seven.png: not a run; the run comes first: "
            f"tinylab predict {run} 'my seven.png'{dots}\n"
        )
    assert cli.run(["predict", run.name, str(run), "my seven.png"]) == 1
    assert f"did you mean {run}?" in capsys.readouterr().err


def test_a_run_named_without_its_folder_is_suggested(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = finished(Path("outputs"))
    sweep = Path("outputs/sweeps/own")
    sweep.mkdir(parents=True)
    (sweep / "sweep.json").write_text("{}")
    for typed, meant in ((run.name, run), (run.name.rpartition("-")[2], run), ("own", sweep)):
        with pytest.raises(UserError, match=re.escape(f"{typed}: not there")) as raised:
            the_run(Path(typed))
        assert f"did you mean {meant}?" in str(raised.value)
    for typed in ("mlp", "*", "nowhere/x"):
        with pytest.raises(UserError, match="expected the folder of a finished run"):
            the_run(Path(typed))
