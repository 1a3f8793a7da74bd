"""`tinylab evaluate`: the run's own metrics, other data by class name, no silent scoring."""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn import metrics as reference

from option_records import DigitsConfig
from tinylab import cli, data
from tinylab.config.schema import SplitConfig
from tinylab.evaluate.scores import Scores

pytestmark = pytest.mark.costly

Capture = pytest.CaptureFixture[str]
TINY = ["train.epochs=1", "train.batch_size=128"]


def evaluate(outputs: Path, *arguments: object) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """``evaluation.json`` and ``predictions.npz`` of a new evaluation."""
    before = set(outputs.glob("evaluations/*"))
    assert cli.run(["evaluate", *map(str, arguments), f"outputs={outputs}"]) == 0
    [folder] = set(outputs.glob("evaluations/*")) - before
    names = {path.name for path in folder.iterdir()}
    assert names == {"evaluation.json", "predictions.npz", "confusion.png", "reliability.png"}
    with np.load(folder / "predictions.npz") as arrays:
        return json.loads((folder / "evaluation.json").read_text()), dict(arrays)


def test_the_command_is_noted_as_it_was_typed(
    digits_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["tinylab", "evaluate", "a run", f"outputs={tmp_path}"])
    evaluation, _ = evaluate(tmp_path, digits_run)
    assert evaluation["command"] == f"tinylab evaluate 'a run' outputs={tmp_path}"


def contents(folder: Path) -> dict[str, str]:
    """Path -> hash of all files below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def write_digits(root: Path, indices: NDArray[np.int64]) -> None:
    """Images of digits as ``root/<class>/<index>.png``."""
    dataset = data.load(DigitsConfig(), SplitConfig()).data
    for index in indices:
        place = root / dataset.classes[dataset.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{index}.png"), dataset.pixels[index, 0])


def the_test_part() -> NDArray[np.int64]:
    return data.load(DigitsConfig(), SplitConfig()).split.test


def test_the_own_test_part_gives_the_runs_own_metrics_and_leaves_the_run_alone(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = contents(digits_run)
    evaluation, arrays = evaluate(tmp_path, digits_run)
    assert contents(digits_run) == before
    result = json.loads((digits_run / "result.json").read_text())
    assert evaluation["accuracy"] == result["test"]["accuracy"]
    assert evaluation["accuracy_ci95"] == result["test"]["accuracy_ci95"]
    assert evaluation["loss"] == pytest.approx(result["test"]["loss"], rel=1e-6)
    assert evaluation["confusion"] == result["confusion"]
    assert [row["recall"] for row in evaluation["per_class"]] == result["test"]["per_class_recall"]
    assert (evaluation["dataset"]["part"], evaluation["dataset"]["num_learnt"]) == ("test", 0)
    with np.load(digits_run / "predictions.npz") as run:
        for key in ("index", "label", "predicted"):
            assert (arrays[key] == run[key]).all()
        assert np.abs(arrays["probabilities"] - run["probabilities"]).max() < 1e-3
    assert "digits, test: 179 images, none of them seen in training" in capsys.readouterr().out


def test_with_views_averaged_the_runs_own_metrics_come_out_too(tmp_path: Path) -> None:
    options = ["model=mlp", "train.tta=shift", "dataset.normalize=standard"]
    assert cli.run(["train", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("digits-*")
    result = json.loads((run / "result.json").read_text())
    evaluation, _ = evaluate(tmp_path, run)
    assert evaluation["accuracy"] == result["test"]["accuracy"]
    assert evaluation["loss"] == pytest.approx(result["test"]["loss"], rel=1e-6)
    assert evaluation["loss"] != pytest.approx(result["test_plain"]["loss"], rel=1e-6)


def test_test_time_augmentation_is_tried_on_a_finished_run(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = contents(digits_run)
    plain, _ = evaluate(tmp_path, digits_run, "--part", "val")
    assert "with train.tta" not in capsys.readouterr().out
    shifted, arrays = evaluate(tmp_path, digits_run, "--part", "val", "train.tta=shift")
    assert "        with train.tta=shift (in the run: none)\n" in capsys.readouterr().out
    assert [each["runs"][0]["tta"] for each in (plain, shifted)] == ["none", "shift"]
    assert shifted["dataset"]["part"] == "val"
    assert shifted["loss"] != pytest.approx(plain["loss"], rel=1e-6)
    again, _ = evaluate(tmp_path / "again", digits_run, "--part", "val", "train.tta=none")
    assert again["loss"] == plain["loss"]
    names = [sorted(path.name for path in (folder / "evaluations").iterdir())
             for folder in (tmp_path, tmp_path / "again")]  # fmt: skip
    assert set(names[1]) < set(names[0]), "the run's own kind is the same request"
    both, averaged = evaluate(tmp_path, digits_run, digits_run, "--part", "val", "train.tta=shift")
    assert [each["tta"] for each in both["runs"]] == ["shift", "shift"]
    assert np.allclose(averaged["probabilities"], arrays["probabilities"], atol=1e-3)
    assert contents(digits_run) == before


def test_a_temperature_is_saved_only_for_the_runs_own_test_time_augmentation(
    copied_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    before = contents(copied_run)
    assert cli.run(["evaluate", str(copied_run), "--calibrate", "train.tta=grid"]) == 1
    assert "the run, which has train.tta=none; expected only one of" in capsys.readouterr().err
    assert contents(copied_run) == before
    own = ["--calibrate", "train.tta=none", f"outputs={tmp_path}"]
    assert cli.run(["evaluate", str(copied_run), *own]) == 0


def test_other_data_is_prepared_as_in_training_and_scored_whole(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    """A folder is by default read in color and at 32x32; here as the network was trained."""
    write_digits(tmp_path / "photos", the_test_part())
    evaluation, _ = evaluate(
        tmp_path, digits_run, "dataset=folder", f"dataset.root={tmp_path}/photos"
    )
    result = json.loads((digits_run / "result.json").read_text())
    assert evaluation["num"] == 179
    assert evaluation["accuracy"] == result["test"]["accuracy"]
    assert evaluation["dataset"]["image_size"] == 8
    said = capsys.readouterr().out
    assert "folder, all: 179 images, none of them seen in training, compared by" in said
    assert "read as predict reads them: 0 inverted, 0 fitted, 0 several" in said


def write_photographs(root: Path, indices: NDArray[np.int64]) -> None:
    """Images of digits as dark ink somewhere on a sheet of paper."""
    dataset = data.load(DigitsConfig(), SplitConfig()).data
    for index in indices:
        page = np.full((200, 220), 240, np.uint8)
        digit = cv2.resize(dataset.pixels[index, 0], (100, 100), interpolation=cv2.INTER_CUBIC)
        page[40:140, 90:190] -= (digit * 0.8).astype(np.uint8)
        place = root / dataset.classes[dataset.labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place / f"{index}.png"), page)


def test_photographs_of_digits_are_scored_as_predict_reads_them(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_photographs(tmp_path / "photos", the_test_part()[:60])
    root = f"dataset.root={tmp_path}/photos"
    evaluation, arrays = evaluate(tmp_path, digits_run, "dataset=folder", root)
    assert (
        "read as predict reads them: 60 inverted, 60 fitted, 0 several" in capsys.readouterr().out
    )
    files = [str(tmp_path / "photos" / path) for path in arrays["path"]]
    assert cli.run(["predict", str(digits_run), *files, "--format", "json"]) == 0
    predicted = [each["classes"][0]["class"] for each in json.loads(capsys.readouterr().out)]
    assert predicted == [str(label) for label in arrays["predicted"]]
    assert evaluation["accuracy"] > 0.8
    assert cli.run(["evaluate", str(digits_run), "dataset=folder", root, "--invert", "no",
                    f"outputs={tmp_path}/no"]) == 0  # fmt: skip
    assert "0 inverted" in capsys.readouterr().out
    assert cli.run(["evaluate", str(digits_run), "--invert", "yes"]) == 1
    assert "--invert yes: expected a network for digits, and image files" in capsys.readouterr().err


def test_copies_of_training_images_are_recognized_by_their_pixels(
    tmp_path: Path, capsys: Capture
) -> None:
    write_digits(tmp_path / "photos", np.arange(300))
    options = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=8"]
    assert cli.run(["train", "model=mlp", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("folder-*")
    with np.load(run / "split.npz") as kept:
        split = {part: kept[part] for part in ("train", "val", "test")}
        arrays = dict(kept)
    names = sorted((tmp_path / "photos").rglob("*.png"), key=lambda p: (p.parent.name, int(p.stem)))
    for index in (*split["train"][:40], *split["val"][:5], *split["test"][:5]):
        place = tmp_path / "copies" / names[index].parent.name / f"copy_{index}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(names[index], place)
    root = f"dataset.root={tmp_path}/copies"
    evaluation, _ = evaluate(tmp_path, run, root)
    assert (evaluation["dataset"]["num_trained"], evaluation["dataset"]["num_learnt"]) == (40, 45)
    assert "50 images, 45 of them used for training (40) or selection" in capsys.readouterr().out
    # A run of before has no hashes with it, but its data is there.
    np.savez(run / "split.npz", **split)
    assert cli.run(["evaluate", str(run), root, f"outputs={tmp_path}/old"]) == 0
    assert "45 of them used for training (40)" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "photos")
    assert cli.run(["evaluate", str(run), root, f"outputs={tmp_path}/gone"]) == 0
    assert "possibly including training images" in capsys.readouterr().out
    np.savez(run / "split.npz", **arrays)
    assert cli.run(["evaluate", str(run), root, f"outputs={tmp_path}/kept"]) == 0
    assert "45 of them used for training (40)" in capsys.readouterr().out


def test_copies_that_were_reencoded_or_resized_are_said_to_look_like_training_images(
    tmp_path: Path, capsys: Capture
) -> None:
    digits = data.load(DigitsConfig(), SplitConfig()).data
    for number in range(300):
        place = tmp_path / "photos" / digits.classes[digits.labels[number]]
        place.mkdir(parents=True, exist_ok=True)
        large = cv2.resize(digits.pixels[number, 0], (48, 48), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(place / f"{number:03d}.png"), large)
    options = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=16"]
    assert cli.run(["train", "model=mlp", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("folder-*")
    with np.load(run / "split.npz") as kept:
        train, test = kept["train"], kept["test"]
    names = sorted((tmp_path / "photos").rglob("*.png"))
    for index in (*train[:30], *test):
        image = cv2.imread(str(names[index]))
        if index in train[20:]:
            image = cv2.resize(image, (49, 49))
        place = tmp_path / "copies" / names[index].parent.name / f"{index}.jpg"
        place.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(place), image, [cv2.IMWRITE_JPEG_QUALITY, 75])
    root = f"dataset.root={tmp_path}/copies"
    capsys.readouterr()
    evaluation, _ = evaluate(tmp_path, run, root)
    assert (evaluation["dataset"]["num_learnt"], evaluation["dataset"]["num_alike"]) == (0, 30)
    assert "        30 others resemble training images" in capsys.readouterr().out
    shutil.rmtree(tmp_path / "photos")
    evaluation, _ = evaluate(tmp_path / "gone", run, root)
    assert evaluation["dataset"]["num_alike"] == 0


def test_images_of_a_single_class_are_scored(digits_run: Path, tmp_path: Path) -> None:
    labels = data.load(DigitsConfig(), SplitConfig()).data.labels
    chosen = [index for index in the_test_part() if labels[index] == 7]
    write_digits(tmp_path / "photos", np.array(chosen))
    evaluation, _ = evaluate(
        tmp_path, digits_run, "dataset=folder", f"dataset.root={tmp_path}/photos"
    )
    assert evaluation["num"] == len(chosen)
    assert [row["class"] for row in evaluation["per_class"] if row["num"]] == ["7"]


def test_classes_are_matched_by_name_and_some_may_be_absent(
    digits_run: Path, tmp_path: Path
) -> None:
    """In the folder 3 and 8 are classes 0 and 1; for the network they are 3 and 8."""
    labels = data.load(DigitsConfig(), SplitConfig()).data.labels
    chosen = [index for index in the_test_part() if labels[index] in (3, 8)]
    write_digits(tmp_path / "photos", np.array(chosen))
    evaluation, arrays = evaluate(
        tmp_path, digits_run, "dataset=folder", f"dataset.root={tmp_path}/photos"
    )
    assert set(arrays["label"]) == {3, 8}
    assert [path.split("/")[0] for path in arrays["path"]] == [str(n) for n in arrays["label"]]
    assert evaluation["accuracy"] > 0.7
    assert [row["class"] for row in evaluation["per_class"] if row["num"]] == ["3", "8"]
    assert evaluation["per_class"][0]["recall"] is None


def test_unknown_classes_are_refused_with_both_lists(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    write_digits(tmp_path / "photos", the_test_part()[:40])
    (tmp_path / "photos" / "0").rename(tmp_path / "photos" / "zero")
    root = f"dataset.root={tmp_path}/photos"
    assert cli.run(["evaluate", str(digits_run), "dataset=folder", root]) == 1
    error = capsys.readouterr().err
    assert "1 of its" in error
    assert "data: 1, 2, 3" in error
    assert "zero\n" in error
    assert "network: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n" in error


def train(outputs: Path, *overrides: str) -> Path:
    before = set((outputs / "runs").glob("digits-*"))
    assert cli.run(["train", "model=mlp", *TINY, *overrides, f"outputs={outputs}"]) == 0
    [folder] = set((outputs / "runs").glob("digits-*")) - before
    return folder


def test_an_ensemble_is_scored_beside_its_members(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    other = train(tmp_path)
    alone = [evaluate(tmp_path, run, "--part", "test") for run in (digits_run, other)]
    capsys.readouterr()
    both, arrays = evaluate(tmp_path, digits_run, other)
    mean = (alone[0][1]["probabilities"] + alone[1][1]["probabilities"].astype(float)) / 2
    assert np.abs(arrays["probabilities"] - mean).max() < 2e-3
    assert [each["accuracy"] for each in both["runs"]] == [each["accuracy"] for each, _ in alone]
    out = capsys.readouterr().out
    assert out.count("95% CI") == 3


def test_no_image_that_has_trained_a_network_is_scored_unsaid(
    tmp_path: Path, capsys: Capture
) -> None:
    one, other = train(tmp_path), train(tmp_path, "split.seed=1")
    assert cli.run(["evaluate", str(one), str(other), f"outputs={tmp_path}"]) == 1
    error = capsys.readouterr().err
    splits = [data.load(DigitsConfig(), SplitConfig(seed=seed)).split for seed in (0, 1)]
    overlap = len(np.setdiff1d(splits[0].test, splits[1].test))
    assert f"{overlap} test images of {one.name} were used to train {other.name}" in error
    assert not list(tmp_path.glob("evaluations/*"))
    evaluation, _ = evaluate(tmp_path, one, other, "--part", "all")
    learnt = 1797 - len(np.intersect1d(splits[0].test, splits[1].test))
    assert (evaluation["num"], evaluation["dataset"]["num_learnt"]) == (1797, learnt)
    assert f"{learnt:,} of them used for training" in capsys.readouterr().out
    for part, count in (("train", 1457), ("val", 161)):
        evaluation, arrays = evaluate(tmp_path, one, "--part", part)
        assert evaluation["dataset"]["num_learnt"] == evaluation["num"] == count
        assert (arrays["index"] == getattr(splits[0], part)).all()


def test_the_own_data_read_otherwise_is_still_the_own_data(tmp_path: Path) -> None:
    write_digits(tmp_path / "photos", np.arange(400))
    options = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=12"]
    assert cli.run(["train", "model=mlp", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("folder-*")
    evaluation, arrays = evaluate(tmp_path, run, "dataset.interpolation=nearest")
    assert evaluation["dataset"]["part"] == "test"
    with np.load(run / "split.npz") as split:
        assert (arrays["index"] == split["test"]).all()


def test_data_that_has_changed_since_training_is_refused(tmp_path: Path, capsys: Capture) -> None:
    write_digits(tmp_path / "photos", np.arange(300))
    options = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=8"]
    assert cli.run(["train", "model=mlp", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("folder-*")
    write_digits(tmp_path / "photos", np.arange(300, 310))
    capsys.readouterr()
    assert cli.run(["evaluate", str(run), f"outputs={tmp_path}"]) == 1
    assert "its data has changed since" in capsys.readouterr().err
    evaluation, _ = evaluate(tmp_path, run, "--part", "all")
    assert evaluation["dataset"]["num_learnt"] == evaluation["num"] == 310
    shutil.copytree(tmp_path / "photos", tmp_path / "elsewhere")
    [asked] = (tmp_path / "evaluations").iterdir()
    elsewhere = f"dataset.root={tmp_path}/elsewhere"
    assert cli.run(["evaluate", str(run), elsewhere, f"outputs={tmp_path}"]) == 0
    assert [*(tmp_path / "evaluations").iterdir()] == [asked], "the same images, wherever they lie"
    evaluation = json.loads((asked / "evaluation.json").read_text())
    assert evaluation["dataset"]["part"] == "all", "images that were changed are no test part"


def test_class_names_of_any_kind_are_drawn_and_shown(tmp_path: Path, capsys: Capture) -> None:
    write_digits(tmp_path / "photos", np.arange(200))
    for number, name in enumerate(["$x^{", "数字", "a 'b' \"c\""]):
        (tmp_path / "photos" / str(number)).rename(tmp_path / "photos" / name)
    options = ["dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=8"]
    assert cli.run(["train", "model=mlp", *TINY, *options, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("folder-*")
    evaluate(tmp_path, run, "--part", "all")
    assert "$x^{" in capsys.readouterr().out


WRONG = {
    "no run": (["dataset=digits"], ["RUN", "finished run"]),
    "folder that is no run": (["nowhere"], ["nowhere", "finished run"]),
    "images too small": (["{run}", "dataset=mnist"], ["28 to 1024", "takes images of 1x8x8"]),
    "images of another size": (["{run}", "dataset.image_size=9"], ["1x9x9", "takes 1x8x8"]),
    "its own normalization": (["{run}", "dataset.normalize=unit"], ["keeps the normalization"]),
    "a key of training": (["{run}", "train.epochs=3"], ["train.epochs=3", "dataset.KEY"]),
    "unknown tta": (["{run}", "train.tta=grit"], ["train.tta=grit: expected one of none, flip"]),
    "several kinds": (["{run}", "train.tta=shift,grid"], ["expected one kind; evaluate once"]),
    "another split": (
        ["{run}", "split.seed=3"],
        ["split.seed=3", "everything else comes from the run"],
    ),
    "unknown key": (["{run}", "dataset.sise=3"], ["dataset.sise", "did you mean"]),
    "unknown dataset": (["{run}", "dataset=digit"], ["dataset=digit", "did you mean 'digits'"]),
    "unknown part": (["{run}", "--part", "most"], ["most", "test"]),
    "absent folder": (["{run}", "dataset=folder", "dataset.root=absent"], ["absent"]),
    "absent device": (["{run}", "--device", "cuda:7"], ["cuda:7", "cpu"]),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_refused_in_words_and_leaves_nothing(
    arguments: list[str], said: list[str], digits_run: Path, tmp_path: Path, capsys: Capture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert cli.run(["evaluate", *(word.format(run=digits_run) for word in arguments)]) == 1
    error = capsys.readouterr().err
    for words in said:
        assert words in error
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@given(st.integers(2, 5), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_the_metrics_are_scikit_learns(K: int, N: int, seed: int) -> None:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, K, N)
    probabilities = generator.dirichlet(np.ones(K), N)
    scores = Scores(labels, probabilities, tuple("abcde"[:K]))
    precision, recall, f1, support = reference.precision_recall_fscore_support(
        labels, scores.predicted, labels=range(K), zero_division=np.nan
    )
    rows = scores.by_class()
    assert [row["num"] for row in rows] == support.tolist()
    for key, expected in (("precision", precision), ("recall", recall), ("f1", f1)):
        values = [np.nan if row[key] is None else row[key] for row in rows]
        assert np.allclose(values, expected, equal_nan=True), key
    loss = reference.log_loss(labels, probabilities, labels=range(K))
    assert scores.score.loss == pytest.approx(loss)
    assert scores.score.nll == scores.score.loss
    assert scores.score.accuracy == reference.accuracy_score(labels, scores.predicted)
    assert scores.as_dict()["ece"] == scores.reliability.error


def test_a_probability_of_zero_gives_a_finite_loss() -> None:
    scores = Scores(np.array([0, 1]), np.array([[0.0, 1.0], [0.0, 1.0]]), ("a", "b"))
    assert np.isfinite(scores.score.loss)
    assert json.loads(json.dumps(scores.as_dict(), allow_nan=False))["accuracy"] == 0.5
