"""`tinylab export`: each format gives the run's own answers, opened by its own library."""

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from option_records import BaselineConfig, DigitsConfig
from tinylab import cli, data, models
from tinylab.config.schema import SplitConfig
from tinylab.export import check, formats
from tinylab.export.formats import FORMATS

pytestmark = pytest.mark.costly

Capture = pytest.CaptureFixture[str]
Images = NDArray[np.uint8]
Opened = tuple[Callable[[Images], NDArray[np.float32]], dict[str, Any]]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def digits_test_images(size: int = 8) -> Images:
    splits = data.load(DigitsConfig(image_size=size), SplitConfig())
    return splits.data.pixels[splits.split.test]


def open_onnx(path: Path) -> Opened:
    import onnxruntime

    session = onnxruntime.InferenceSession(path)
    (entry,), (exit_) = session.get_inputs(), session.get_outputs()
    assert (entry.name, entry.type) == ("images", "tensor(uint8)")
    assert [entry.shape[0], exit_[0].shape[0]] == ["batch", "batch"]
    stored = session.get_modelmeta().custom_metadata_map
    facts = {
        key: stored[key] if key == "run_id" else json.loads(stored[key])
        for key in ("run_id", "classes", "image_shape", "test_accuracy", "test_accuracy_ci95")
    }
    return lambda images: session.run(None, {"images": images})[0], facts


def open_program(path: Path) -> Opened:
    extra = {"metadata.json": ""}
    module = torch.export.load(path, extra_files=extra).module()
    return lambda images: module(torch.from_numpy(images)).detach().numpy(), json.loads(
        extra["metadata.json"]
    )


def open_state_dict(path: Path) -> Opened:
    stored = torch.load(path, weights_only=True)
    facts = stored["metadata"]
    model = models.build(BaselineConfig(**facts["model"]), facts["image_shape"], 10).eval()
    model.load_state_dict(stored["state_dict"])
    scale = torch.tensor(facts["normalization"]["scale"])
    offset = torch.tensor(facts["normalization"]["offset"])
    return (
        lambda images: model(torch.from_numpy(images).float() * scale + offset).detach().numpy(),
        facts,
    )


OPEN = {"onnx": open_onnx, "torch_export": open_program, "state_dict": open_state_dict}


@pytest.mark.parametrize("name", FORMATS)
def test_the_file_gives_the_runs_classes_on_the_whole_test_set(
    name: str, digits_run: Path, capsys: Capture
) -> None:
    assert cli.run(["export", str(digits_run), "--to", name, "--out", "new folder/net"]) == 0
    assert [path.name for path in Path("new folder").iterdir()] == ["net"]
    said = capsys.readouterr().out
    assert "checked on 179 test images: 179 equal predictions" in said
    ask, facts = OPEN[name](Path("new folder/net"))
    images = digits_test_images()
    logits = ask(images)
    with np.load(digits_run / "predictions.npz") as run:
        assert (logits.argmax(1) == run["predicted"]).all()
        probabilities = torch.from_numpy(logits).double().softmax(1).numpy()
        assert np.abs(probabilities - run["probabilities"]).max() < 1e-3
    for count in (1, 2, 3, 50):
        assert np.abs(ask(images[:count]) - logits[:count]).max() < 1e-4
    result = json.loads((digits_run / "result.json").read_text())
    assert facts["run_id"] == result["run_id"]
    assert facts["classes"] == result["dataset"]["classes"]
    assert facts["image_shape"] == [1, 8, 8]
    assert facts["test_accuracy"] == result["test"]["accuracy"]
    assert facts["test_accuracy_ci95"] == result["test"]["accuracy_ci95"]


def test_normalization_views_and_other_layers_are_inside(tmp_path: Path) -> None:
    """Color, batch norm, the training mean, averaged views; trained in mixed precision."""
    generator = np.random.default_rng(0)
    import cv2

    for name in "ab":
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(60):
            noise = generator.integers(0, 200, (10, 10, 3), dtype=np.uint8)
            noise[:, :5, "ab".index(name)] += 50
            cv2.imwrite(str(tmp_path / "photos" / name / f"{number}.png"), noise)
    options = [
        "dataset=folder", f"dataset.root={tmp_path}/photos", "dataset.image_size=10",
        "dataset.normalize=standard", "model=resnet", "model.width=4", "model.stages=2",
        "train.epochs=2", "train.tta=flip_shift_rotate", "train.precision=bfloat16",
    ]  # fmt: skip
    assert cli.run(["train", *options]) == 0
    [run] = Path("outputs/runs").glob("folder-*")
    for name in ("onnx", "torch_export"):
        assert cli.run(["export", str(run), "--to", name]) == 0
    one, _ = open_onnx(Path(f"{run.name}.onnx"))
    other, _ = open_program(Path(f"{run.name}.pt2"))
    images = generator.integers(0, 256, (20, 3, 10, 10), dtype=np.uint8)
    assert np.abs(one(images) - other(images)).max() < 1e-4
    mirrored = np.ascontiguousarray(images[..., ::-1])
    assert np.abs(one(images) - one(mirrored)).max() < 1e-4, "both sides are seen of every image"


def test_a_file_that_computes_something_else_is_not_kept(
    digits_run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = FORMATS["state_dict"].write

    def write_other_weights(network: Any, facts: Any, path: Path) -> None:
        network.model.output.bias.data[3] += 0.01
        write(network, facts, path)

    spoiled = formats.Format(".pt", write_other_weights, FORMATS["state_dict"].open)
    monkeypatch.setitem(FORMATS, "state_dict", spoiled)
    assert cli.run(["export", str(digits_run), "--to", "state_dict"]) == 1
    error = capsys.readouterr().err
    assert "not written: its logits differ from the original network's by up to 0.01" in error
    assert not list(Path().iterdir())


@pytest.mark.parametrize(("difference", "ok"), [(0.0, True), (2e-4, False), (float("nan"), False)])
def test_what_differs_by_more_than_rounding_is_refused(difference: float, ok: bool) -> None:
    agreement = check.Agreement(difference, allowed=1e-4, equal=1, num=1)
    if ok:
        check.refuse_difference(agreement, Path("x"))
    else:
        with pytest.raises(check.UserError, match="x: not written"):
            check.refuse_difference(agreement, Path("x"))


def test_absent_packages_are_named_with_the_remedy(
    digits_run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    assert cli.run(["export", str(digits_run)]) == 1
    error = capsys.readouterr().err
    assert "--to onnx: not installed: onnxruntime\n" in error
    assert "pip install 'tinylab[export]'" in error
    assert cli.run(["export", str(digits_run), "--to", "state_dict"]) == 0


@pytest.mark.parametrize("name", ["onnx", "torch_export"])
def test_a_network_that_cannot_be_traced_is_refused_in_words(
    name: str, digits_run: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("data-dependent branch\nand pages of it")

    monkeypatch.setattr("torch.export.export", refuse)
    monkeypatch.setattr("torch.onnx.export", refuse)
    assert cli.run(["export", str(digits_run), "--to", name]) == 1
    error = capsys.readouterr().err
    assert "RuntimeError: data-dependent branch\n  choose --to state_dict" in error
    assert not list(Path().iterdir())


def test_without_the_test_images_nothing_is_written(capsys: Capture, tmp_path: Path) -> None:
    root = tmp_path / "photos"
    images = digits_test_images()
    import cv2

    for index, image in enumerate(images[:60]):
        (root / "ab"[index % 2]).mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(root / "ab"[index % 2] / f"{index}.png"), image[0])
    options = ["dataset=folder", f"dataset.root={root}", "dataset.image_size=8", "model=mlp"]
    assert cli.run(["train", *options, "train.epochs=1"]) == 0
    [run] = Path("outputs/runs").glob("folder-*")
    root.rename(tmp_path / "elsewhere")
    assert cli.run(["export", str(run), "--to", "state_dict"]) == 1
    assert f"dataset.root={root}: no such folder" in capsys.readouterr().err
    assert not list(Path().glob("*.pt"))


WRONG = {
    "no run": (["nowhere"], ["nowhere", "finished run"]),
    "unknown format": (["{run}", "--to", "tflite"], ["tflite", "onnx"]),
    "folder that is a file": (["{run}", "--to", "state_dict", "--out", "/dev/null/x"], ["written"]),
}


@pytest.mark.parametrize(("arguments", "said"), WRONG.values(), ids=WRONG.keys())
def test_wrong_input_is_refused_in_words(
    arguments: list[str], said: list[str], digits_run: Path, capsys: Capture
) -> None:
    assert cli.run(["export", *(word.format(run=digits_run) for word in arguments)]) == 1
    error = capsys.readouterr().err
    for words in said:
        assert words in error
    assert "Traceback" not in error
