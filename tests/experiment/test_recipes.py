"""The pinned recipes of conf/experiment: they compose, keep off the test set, and reach a floor."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinylab import cli, data
from tinylab.config import compose, folders
from tinylab.data.batches import Batches
from tinylab.experiment import run as experiment
from tinylab.training import loop
from tinylab.training.evaluate import evaluate

RECIPES = compose.choices("experiment")
TINY = [
    "train.epochs=3", "train.batch_size=128", "dataset.normalize=standard", "train.ema=0.9",
    "augment=digits", "augment.elastic=0.05", "augment.cutmix=1", "train.patience=2", "threads=1",
]  # fmt: skip


def result_of(folder: Path, *arguments: str) -> dict[str, Any]:
    """The result of one run through the command line."""
    assert cli.run(["train", *arguments, f"outputs={folder}"]) == 0
    [path] = folder.glob("runs/*/result.json")
    result: dict[str, Any] = json.loads(path.read_text())
    rows = [json.loads(line) for line in (path.parent / "metrics.jsonl").read_text().splitlines()]
    result["curve"] = [[row[key] for key in ("train_loss", "val_loss", "lr")] for row in rows]
    return result


# ---------------------------------------------------------------- fairness


@pytest.mark.costly
def test_nothing_but_the_test_metrics_depends_on_the_test_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other images and labels in the test set leave training and validation as they are."""
    honest = result_of(tmp_path / "honest", *TINY, "train.tta=shift")
    load = data.load

    def with_another_test_set(*configs: Any) -> data.Splits:
        splits = load(*configs)
        images, labels = splits.data.pixels.copy(), splits.data.labels.copy()
        images[splits.split.test] = 255 - images[splits.split.test]
        labels[splits.split.test] = (labels[splits.split.test] + 1) % 10
        spoiled = dataclasses.replace(splits.data, pixels=images, labels=labels)
        return dataclasses.replace(splits, data=spoiled)

    monkeypatch.setattr(data, "load", with_another_test_set)
    other = result_of(tmp_path / "other", *TINY, "train.tta=shift")
    for key in ("weights_sha256", "curve", "train", "val", "val_plain", "best_epoch", "epochs"):
        assert honest[key] == other[key], key
    for key in ("test", "test_plain"):
        assert honest[key]["loss"] != other[key]["loss"]


@pytest.mark.costly
def test_the_test_set_is_evaluated_once_after_the_last_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[int, str]] = []

    def noted(model: Any, batches: Batches, recipe: Any, tta: str = "none", **more: Any) -> Any:
        seen.append((len(batches), tta))
        return evaluate(model, batches, recipe, tta, **more)

    for module in (loop, experiment):
        monkeypatch.setattr(module, "evaluate", noted)
    result = result_of(tmp_path, *TINY, "train.tta=flip", "train.patience=null")
    num = {part: result["dataset"][f"num_{part}"] for part in experiment.PARTS}
    epochs = [(num["val"], "none")] * 3
    plain = [(num[part], "none") for part in experiment.PARTS]
    assert seen == [*epochs, *plain, (num["val"], "flip"), (num["test"], "flip")]


# ---------------------------------------------------------------- test-time augmentation


@pytest.mark.costly
def test_both_accuracies_are_named_with_test_time_augmentation_and_one_without(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = result_of(tmp_path / "named", *TINY, "train.tta=shift")
    said = capsys.readouterr().out
    plain = result_of(tmp_path / "plain", *TINY)
    assert "train.tta" not in capsys.readouterr().out
    of_test_alone = ("accuracy_ci95", "per_class_recall")
    assert {**named["test_plain"], **{key: plain["test"][key] for key in of_test_alone}} == (
        plain["test"]
    )
    assert named["val_plain"] == plain["val"]
    assert named["train"] == plain["train"]
    assert named["test"]["loss"] != plain["test"]["loss"]
    assert "test_plain" not in plain
    assert f"train.tta=shift; without it {plain['test']['accuracy']:.2%}" in said
    epoch = f"{plain['val']['accuracy']:.2%}, as after epoch {plain['best_epoch']}\n"
    assert f"validation accuracy {named['val']['accuracy']:.2%}; without it {epoch}" in said
    [folder] = (tmp_path / "named" / "runs").glob("digits-*")
    with np.load(folder / "predictions.npz") as predictions:
        right = predictions["predicted"] == predictions["label"]
    assert right.mean() == named["test"]["accuracy"]


# ---------------------------------------------------------------- the recipes


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_says_its_command_and_composes(name: str) -> None:
    text = (folders.conf_folder() / "experiment" / f"{name}.yaml").read_text()
    commands = re.findall(r"^# +tinylab (train -m .*)$", text, re.M)
    assert commands
    assert all(f"experiment={name} " in command for command in commands)
    composed: list[Any] = []
    compose.run_hydra(composed.append, [f"experiment={name}"])
    config = compose.to_config(composed[0])
    assert config.dataset.name == name.partition("_")[0]
    if name.endswith("_best"):
        assert config.train.weights == "last"  # nothing is left to choose once it runs


@pytest.mark.costly
def test_digits_best_in_short_reaches_its_floor(tmp_path: Path) -> None:
    """6 of 60 epochs; the whole recipe has 99.8 %."""
    result = result_of(tmp_path, "experiment=digits_best", "train.epochs=6", "threads=1")
    assert result["test"]["accuracy"] > 0.95


def test_mnist_fast_in_short_reaches_its_floor(tmp_path: Path, real_data: Path) -> None:
    """3 of 5 epochs on 600 images a class; a linear model has 92 % with all 60,000."""
    short = ["split.train_per_class=600", "train.epochs=3", "train.tta=none", "threads=1"]
    result = result_of(tmp_path, "experiment=mnist_fast", *short)
    assert result["dataset"]["num_train"] == 6000
    assert result["test"]["num"] == 10_000
    assert result["test"]["accuracy"] > 0.95
