"""Temperature, doubtful images and images unlike the training data, against references."""

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.spatial.distance import cdist
from scipy.special import log_softmax, softmax
from scipy.stats import chi2

from option_records import DigitsConfig
from tinylab import cli, data, inference
from tinylab.config.schema import SplitConfig
from tinylab.evaluate import calibrate
from tinylab.evaluate.calibrate import LARGEST, fit_temperature, p_of_one
from tinylab.inference import NEIGHBOR, Ensemble, Trained, load_ensemble, neighbor_distance, the_run
from tinylab.predict.classify import marks_of
from tinylab.store import calibration
from tinylab.store.calibration import Calibration
from tinylab.store.folder import RunFolder

Capture = pytest.CaptureFixture[str]


def sampled(seed: int, temperature: float, count: int) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Logits that are too large by a factor, and labels drawn from their true probabilities."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(count, 4)) * 2
    labels = np.array([rng.choice(4, p=row) for row in softmax(logits, axis=1)])
    return logits * temperature, labels


@given(st.integers(0, 999), st.floats(0.3, 4))
def test_the_temperature_is_that_of_a_general_minimizer(seed: int, temperature: float) -> None:
    logits, labels = sampled(seed, temperature, 50)

    def nll(log_temperature: float) -> float:
        rows = log_softmax(logits / np.exp(log_temperature), axis=1)
        return -float(rows[np.arange(len(labels)), labels].mean())

    bounds = (-np.log(LARGEST), np.log(LARGEST))
    best = minimize_scalar(nll, bounds=bounds, method="bounded", options={"xatol": 1e-10})
    assert nll(np.log(fit_temperature(logits, labels))) <= best.fun + 1e-9


def test_of_many_labels_the_true_temperature_is_found() -> None:
    logits, labels = sampled(0, 2.5, 20_000)
    assert fit_temperature(logits, labels) == pytest.approx(2.5, rel=0.03)


def test_where_all_is_right_nothing_is_fitted() -> None:
    assert fit_temperature(np.eye(3) * 2, np.arange(3)) == 1.0


@given(st.integers(0, 999), st.floats(0.3, 4))
def test_the_p_value_of_temperature_1_is_that_of_the_likelihood_ratio(
    seed: int, temperature: float
) -> None:
    logits, labels = sampled(seed, temperature, 30)
    best = fit_temperature(logits, labels)
    first, last = (
        log_softmax(logits / each, axis=1)[np.arange(30), labels].sum() for each in (1.0, best)
    )
    expected = chi2.sf(2 * (last - first), df=1)
    assert p_of_one(logits, labels, best) == pytest.approx(expected, abs=1e-6)


def test_a_fit_that_rests_on_few_mistakes_is_said_to_be_uncertain() -> None:
    def said(num: int) -> list[str]:
        logits, labels = sampled(0, 3.0, num)
        best = fit_temperature(logits, labels)
        scores = calibrate._at(logits, labels, ("a", "b", "c", "d"), best)
        return calibrate._outcome(*scores, best, p_of_one(logits, labels, best))

    assert [line.partition(":")[0] for line in said(400)] == ["temperature 2.828"]
    few = next(each for each in map(said, range(8, 40)) if each[0].startswith("temperature"))
    assert "are misclassified: the loss on new images may rise" in few[1]


@pytest.mark.parametrize("count", [4, 40])
def test_the_distance_is_that_of_all_distances_sorted(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inference, "CHUNK", 7)
    rng = np.random.default_rng(0)
    points, others = (rng.normal(size=(n, 5)) for n in (20, count))
    points, others = (each / np.linalg.norm(each, axis=1)[:, None] for each in (points, others))
    k = min(NEIGHBOR, count)
    expected = np.sort(cdist(points, others), axis=1)[:, k - 1]
    assert neighbor_distance(points, others) == pytest.approx(expected, abs=1e-3)


def test_a_calibration_of_other_weights_or_a_damaged_one_is_none(tmp_path: Path) -> None:
    file = tmp_path / "calibration.npz"
    result = Calibration("abc", 1.5, np.eye(3, dtype=np.float16), 0.25)
    calibration.write(file, result)
    again = calibration.read(file, "abc")
    assert again is not None
    assert (again.temperature, again.threshold) == (1.5, 0.25)
    assert np.array_equal(again.features, result.features)
    assert calibration.read(file, "other") is None
    file.write_bytes(file.read_bytes()[:100])
    assert calibration.read(file, "abc") is None
    assert calibration.read(tmp_path / "absent", "abc") is None


def digits_images() -> NDArray[np.uint8]:
    splits = data.load(DigitsConfig(), SplitConfig())
    return splits.data.pixels[splits.split.test]


def trained(run: Path, calibrated: bool) -> Trained:
    return load_ensemble([the_run(run)], "cpu", calibrated).first


@pytest.fixture
def calibrated_run(copied_run: Path, capsys: Capture) -> Path:
    """A run with more confidence than it should have, calibrated."""
    assert cli.run(["evaluate", str(copied_run), "--calibrate",
                    f"outputs={copied_run.parents[1]}"]) == 0  # fmt: skip
    assert "temperature" in capsys.readouterr().out
    return copied_run


@pytest.mark.costly
def test_features_are_the_last_layers_input_at_length_one(digits_run: Path) -> None:
    result, images = trained(digits_run, False), digits_images()
    features = result.features(images)
    assert np.linalg.norm(features, axis=1) == pytest.approx(1, abs=1e-5)
    layer = result.model.output
    logits = result.logits(images).numpy()
    directions = (features @ layer.weight.detach().numpy().T).astype(np.float64)  # type: ignore
    bias = layer.bias.detach().numpy()  # type: ignore[union-attr]
    lengths = (logits - bias) / directions
    assert np.median(np.abs(lengths / np.median(lengths, axis=1)[:, None] - 1)) < 1e-4


@pytest.mark.costly
def test_predict_applies_the_temperature_and_evaluate_alone_does_not(
    calibrated_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    plain, warm = (trained(calibrated_run, each) for each in (False, True))
    assert warm.calibration is not None
    images = digits_images()
    logits = plain.logits(images).double()
    expected = (logits / warm.calibration.temperature).softmax(1).numpy()
    assert warm.calibration.temperature != 1
    assert np.array_equal(warm.probabilities(images), expected)
    assert np.array_equal(plain.probabilities(images), torch.softmax(logits, 1).numpy())
    result = json.loads((calibrated_run / "result.json").read_text())
    outputs = f"outputs={tmp_path}"
    assert cli.run(["evaluate", str(calibrated_run), outputs]) == 0
    [report] = tmp_path.glob("evaluations/*/evaluation.json")
    assert json.loads(report.read_text())["nll"] == pytest.approx(result["test"]["nll"])
    assert cli.run(["evaluate", str(calibrated_run), "--calibrate", outputs]) == 0
    assert len(list(tmp_path.glob("evaluations/*"))) == 2, "it is another question"
    assert f"(before {result['test']['nll']:.4f}), calibration" in capsys.readouterr().out


@pytest.mark.costly
def test_of_too_few_validation_images_nothing_is_concluded(
    copied_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    monkeypatch.setattr(calibrate, "LEVEL", 0.0)
    monkeypatch.setattr(calibrate, "ENOUGH", 1000)
    words = ["evaluate", str(copied_run), "--calibrate", f"outputs={tmp_path}"]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "the temperature stays 1: 0." in said
    assert "unlike the training data will not be marked: that needs 1000 validation images" in said
    assert re.search(
        r"calibrated: accuracy .* loss (\S+) \(before \1\), .* (\S+) \(before \2\)", said
    )
    warm = trained(copied_run, True)
    assert warm.calibration is not None
    assert (warm.calibration.temperature, warm.calibration.tells_unlike) == (1.0, False)
    ensemble = Ensemble((warm,))
    assert marks_of(ensemble, 0.5) == ["rejected"]
    assert ensemble.unlike(digits_images()[:2]) is None


@pytest.mark.costly
def test_doubtful_and_unlike_images_are_marked_and_counted(
    calibrated_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 1, 8, 8), dtype=np.uint8)
    images = [*digits_images()[:40], *noise]
    files = []
    for number, image in enumerate(images):
        files.append(str(tmp_path / f"{number:02}.png"))
        cv2.imwrite(files[-1], image[0])
    words = ["predict", str(calibrated_run), *files, "--reject", "0.9"]
    capsys.readouterr()
    assert cli.run([*words, "--format", "csv"]) == 0
    captured = capsys.readouterr()
    rows = list(csv.DictReader(io.StringIO(captured.out)))
    rejected = [float(row["probability_1"]) < 0.9 for row in rows]
    assert [row["rejected"] == "yes" for row in rows] == rejected
    assert 0 < sum(rejected) < len(rows)
    assert f"rejected: {sum(rejected)} of 60" in captured.err
    unlike = [row["unlike"] == "yes" for row in rows]
    assert sum(unlike[:40]) <= 4
    assert sum(unlike[40:]) >= 8
    assert f"unlike: {sum(unlike)} of 60" in captured.err
    assert "temperature" in captured.err
    assert cli.run([*words, "--format", "json"]) == 0
    objects = json.loads(capsys.readouterr().out)
    assert [each["rejected"] for each in objects] == rejected
    assert cli.run(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert ["rejected" in line for line in lines] == rejected


@pytest.mark.costly
def test_what_cannot_be_calibrated_or_rejected_is_refused(
    digits_run: Path, tmp_path: Path, capsys: Capture
) -> None:
    tiny = ["train.epochs=1", "model=mlp", "train.batch_size=128", "split.val=0"]
    assert cli.run(["train", *tiny, f"outputs={tmp_path}"]) == 0
    [run] = (tmp_path / "runs").glob("digits-*")
    assert cli.run(["evaluate", str(run), "--calibrate"]) == 1
    assert "has no validation images" in capsys.readouterr().err
    assert not RunFolder(run).calibration_file.exists()
    assert cli.run(["predict", str(digits_run), "x.png", "--reject", "2"]) == 1
    assert "--reject 2: expected a probability" in capsys.readouterr().err
