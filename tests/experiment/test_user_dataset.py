"""A dataset of a user's own file, from the command line to its predictions."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from tinylab import cli
from workplace_kit import begun, result

SOURCE = '''import numpy as np
import tinylab
from stripes_of_mine import stripes


@tinylab.dataset
def mine(count: int = 240, noise: float = 0.2, file: str = ""):
    """Bright stripes at one of three heights."""
    images, labels = stripes(count, noise)
    if file:
        images = images + np.load(file)
    half = count // 2
    return {
        "train": (images[:half], labels[:half]),
        "val": (images[half : half + 20], labels[half : half + 20]),
        "test": (images[half + 20 :], labels[half + 20 :]),
        "classes": ["top", "middle", "bottom"],
    }


@tinylab.dataset
def wide(count: int = 30):
    images, labels = stripes(count, 0.2)
    large = np.kron(images, np.ones((2, 2), np.uint8))
    return {"train": (large, labels), "classes": ["top", "middle", "bottom"]}
'''
HELPER = """import numpy as np


def stripes(count, noise):
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    images = rng.random((count, 8, 8)) * noise * 100
    for image, label in zip(images, labels):
        image[2 * label : 2 * label + 2] += 100
    return images.astype(np.uint8), labels
"""
pytestmark = pytest.mark.costly
TRAIN = ["train", "code=mine.py", "dataset=mine", "model=mlp", "model.hidden=16",
         "optim.lr=0.02", "train.epochs=2", "threads=1"]  # fmt: skip


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files, and a finished run of them."""
    return begun(tmp_path_factory, {"mine.py": SOURCE, "stripes_of_mine.py": HELPER}, TRAIN)


def runs(student: Path, outputs: str = "outputs") -> list[Path]:
    return [each for each in student.glob(f"{outputs}/runs/mine-*") if "." not in each.name]


def run_of(student: Path, outputs: str = "outputs") -> Path:
    [actual] = runs(student, outputs)
    return actual


def test_official_parts_and_class_names_are_those_of_the_run(student: Path) -> None:
    actual = result(run_of(student)).dataset
    assert actual.classes == ["top", "middle", "bottom"]
    assert (actual.num_train, actual.num_val, actual.num_test) == (120, 20, 100)
    assert result(run_of(student)).test.accuracy > 0.5
    assert (run_of(student) / "code" / "stripes_of_mine.py").read_text() == HELPER


def test_an_edit_of_the_code_or_of_a_file_that_it_reads_trains_again(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(TRAIN) == 0
    assert "already finished" in capsys.readouterr().out
    np.save("more.npy", np.uint8(1))
    reading = [*TRAIN, "dataset.file=more.npy", "outputs=other"]
    assert cli.run(reading) == 0
    first = result(run_of(student, "other"))
    np.save("more.npy", np.uint8(2))
    assert cli.run(reading) == 0
    assert "the data has changed since" in capsys.readouterr().out
    second = result(run_of(student, "other"))
    assert second.dataset.fingerprint != first.dataset.fingerprint
    assert second.weights_sha256 != first.weights_sha256
    Path("more.npy").unlink()
    assert cli.run(reading) == 0
    assert "already finished" in capsys.readouterr().out
    helper = student / "stripes_of_mine.py"
    helper.write_text(HELPER.replace("+= 100", "+= 90"))
    assert cli.run(TRAIN) == 0
    assert "mine.py or stripes_of_mine.py has changed since" in capsys.readouterr().out


def test_data_that_has_changed_is_not_resumed_on(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save("more.npy", np.uint8(1))
    halted = [*TRAIN, "dataset.file=more.npy", "outputs=halted"]
    assert cli.run(halted) == 0
    (run_of(student, "halted") / "result.json").unlink()
    np.save("more.npy", np.uint8(2))
    assert cli.run(halted) == 1
    assert "have changed since this unfinished run was started" in capsys.readouterr().err
    assert cli.run([*halted, "fresh=true"]) == 0


def test_a_sweep_over_its_keys_trains_in_worker_processes(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["dataset.noise=0.1,0.9", "train.epochs=1", "jobs=2", "outputs=swept"]
    assert cli.run([TRAIN[0], "-m", *TRAIN[1:], *sweep]) == 0
    assert {result(each).config["dataset"]["noise"] for each in runs(student, "swept")} == {
        0.1,
        0.9,
    }
    assert cli.run(["compare", "swept"]) == 0
    assert "2 settings tried in 2 runs" in capsys.readouterr().out


def test_folds_are_of_all_images_outside_the_official_test_part(student: Path) -> None:
    assert cli.run([*TRAIN, "split.folds=4", "train.epochs=1", "outputs=folds"]) == 0
    actual = result(run_of(student, "folds")).dataset
    assert (actual.num_train, actual.num_val, actual.num_test) == (105, 35, 100)


def test_predict_evaluate_and_export_work_and_report_executes_nothing(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = str(run_of(student))
    pixels = np.zeros((16, 16), np.uint8)
    pixels[4:8] = 200
    assert cv2.imwrite("one.png", pixels)
    assert cli.run(["predict", run, "one.png"]) == 0
    assert "middle" in capsys.readouterr().out
    assert cli.run(["evaluate", run]) == 0
    output = capsys.readouterr().out
    assert "100 images, none of them seen in training" in output
    assert f"accuracy {result(Path(run)).test.accuracy:.2%}" in output
    assert cli.run(["evaluate", run, "dataset=wide", "code=mine.py"]) == 0
    assert "30 images, 30 of them used for training (30)" in capsys.readouterr().out
    assert cli.run(["export", run, "--to", "state_dict"]) == 0
    assert cli.run([*TRAIN, "train.epochs=1", "optim.lr=1e-5", "outputs=poor"]) == 0
    (student / "mine.py").write_text("raise SystemExit('executed')\n" + SOURCE)
    assert cli.run(["report", "poor"]) == 0
    assert "your own code, which a report does not execute" in (student / "report.html").read_text()
    assert cli.run(["list"]) == 0


def test_a_mistake_is_refused_before_training_with_their_lines(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "stripes_of_mine.py").write_text(HELPER.replace("% 3", "% no_such"))
    assert cli.run([*TRAIN, "outputs=refused"]) == 1
    output = capsys.readouterr().err.splitlines()
    assert output[0] == "tinylab: dataset=mine: NameError: name 'no_such' is not defined"
    assert [line.strip() for line in output[1::2]] == [
        f"{student / 'mine.py'}:9, in mine",
        f"{student / 'stripes_of_mine.py'}:6, in stripes",
    ]
    assert not (student / "refused").exists()
