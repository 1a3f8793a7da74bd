"""Finished runs as networks: the same probabilities, and a refusal in words of all others."""

import json
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from option_records import DigitsConfig
from tinylab import cli, data
from tinylab.config.compose import replay, restore, run_hydra, to_config
from tinylab.config.schema import Config, SplitConfig
from tinylab.errors import UserError
from tinylab.inference import Ensemble, few, is_run, load_ensemble, the_run
from tinylab.store.folder import RunFolder
from tinylab.training import checkpoint

TINY = ["train.epochs=1", "train.batch_size=256"]


def load(folders: list[Path]) -> Ensemble:
    return load_ensemble([the_run(folder) for folder in folders], "cpu")


def train(outputs: Path, *overrides: str) -> Path:
    """A run in a folder of its own."""
    before = set((outputs / "runs").glob("*"))
    assert cli.run(["train", *TINY, f"outputs={outputs}", *overrides]) == 0
    [folder] = set((outputs / "runs").glob("[!.]*")) - before
    return folder


def change_result(folder: Path, **values: Any) -> None:
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({**result, **values}))


def its_test_images() -> tuple[np.ndarray, np.ndarray]:
    splits = data.load(DigitsConfig(), SplitConfig())
    return splits.data.pixels[splits.split.test], splits.data.labels[splits.split.test]


VARIED = {
    "residual, padded": [
        "dataset.image_size=12", "model=resnet", "model.width=4", "model.stages=2",
    ],
    "standardised, averaged weights, not channels_last": [
        "dataset.normalize=standard", "train.ema=0.9", "train.channels_last=false",
    ],
    "mixed precision, several views": ["train.precision=bfloat16", "train.tta=flip_shift"],
}  # fmt: skip


@pytest.mark.costly
@pytest.mark.parametrize("overrides", VARIED.values(), ids=VARIED.keys())
def test_the_network_gives_what_the_run_gave(overrides: list[str], tmp_path: Path) -> None:
    folder = train(tmp_path, *overrides)
    size = 12 if "dataset.image_size=12" in overrides else 8
    splits = data.load(DigitsConfig(image_size=size), SplitConfig())
    ensemble = load([folder])
    [probabilities] = ensemble.probabilities(splits.data.pixels[splits.split.test])
    with np.load(folder / "predictions.npz") as run:
        assert (probabilities.argmax(1) == run["predicted"]).all()
        assert np.abs(probabilities - run["probabilities"]).max() < 1e-3  # kept as float16


def test_no_training_data_is_needed(
    digits_run: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    monkeypatch.setattr("tinylab.data.digits.read", lambda size: pytest.fail("data was read"))
    assert load([digits_run]).classes == tuple("0123456789")


def test_an_ensemble_averages_by_class_name(copied_run: Path, digits_run: Path) -> None:
    """The copy's classes are in another order, and so are the outputs of its last layer."""
    order = np.random.default_rng(0).permutation(10)
    state = checkpoint.load(copied_run / "best.ckpt")
    for name in ("output.weight", "output.bias"):
        state["model"][name] = state["model"][name][torch.from_numpy(order)]
    checkpoint.save(copied_run / "best.ckpt", state)
    result = json.loads((copied_run / "result.json").read_text())
    model = load([digits_run]).first.model
    model.load_state_dict(state["model"])
    dataset = {**result["dataset"], "classes": [str(label) for label in order]}
    change_result(copied_run, dataset=dataset, weights_sha256=checkpoint.weights_sha256(model))
    images, _ = its_test_images()
    ensemble = load([digits_run, copied_run])
    one, other = ensemble.probabilities(images)
    assert np.abs(one - other).max() < 1e-6
    assert ensemble.classes == tuple("0123456789")


def test_runs_that_do_not_fit_each_other_are_refused(copied_run: Path, digits_run: Path) -> None:
    result = json.loads((copied_run / "result.json").read_text())
    renamed = {**result["dataset"], "classes": list("abcdefghij")}
    change_result(copied_run, dataset=renamed)
    with pytest.raises(UserError, match=r"have different classes: 0, 1, .*; and a, b, "):
        load([digits_run, copied_run])
    config = {**result["config"], "dataset": {**result["config"]["dataset"], "image_size": 9}}
    change_result(copied_run, dataset=result["dataset"], config=config)
    with pytest.raises(UserError, match=r"read images differently: .*8.*; and .*9"):
        load([digits_run, copied_run])


def test_a_sweep_stands_for_its_best_run_by_validation(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = json.loads((copied_run / "result.json").read_text())["config"]
    # By accuracy, and between equals by loss; the test set has no say.
    metrics = {"a": (0.8, 0.1, 1.0), "b": (0.9, 0.3, 0.5), "c": (0.9, 0.2, 0.4), "d": (0.7, 0, 1)}
    for seed, (name, (accuracy, loss, test)) in enumerate(metrics.items()):
        folder = shutil.copytree(copied_run, copied_run.with_name(name))
        change_result(
            folder,
            config={**config, "seed": seed},
            val={"accuracy": accuracy, "loss": loss},
            test={"accuracy": test, "loss": 0.0, "accuracy_ci95": [0, 1]},
        )
    sweep = copied_run.parents[1] / "sweeps" / "of mine"
    sweep.mkdir(parents=True)
    jobs = [{"run_id": name} for name in [*metrics, "unfinished"]]
    (sweep / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    assert the_run(sweep).name == "c"
    assert "of mine: the best of 4 by validation is c" in capsys.readouterr().out
    for name in metrics:
        change_result(copied_run.with_name(name), val=None)
    with pytest.raises(UserError, match="no finished run with a validation accuracy"):
        the_run(sweep)


def break_zip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 0xFF
    path.write_bytes(content)


def other_weights(folder: Path) -> None:
    state = checkpoint.load(folder / "best.ckpt")
    state["model"]["output.bias"] += 1
    checkpoint.save(folder / "best.ckpt", state)


def other_run(folder: Path) -> None:
    state = checkpoint.load(folder / "best.ckpt")
    checkpoint.save(folder / "best.ckpt", {**state, "run_id": "another"})


def newer_format(folder: Path) -> None:
    state = checkpoint.load(folder / "best.ckpt")
    torch.save({**state, "version": 99}, folder / "best.ckpt")


def older_result(folder: Path) -> None:
    result = json.loads((folder / "result.json").read_text())
    del result["dataset"]["normalization"]
    (folder / "result.json").write_text(json.dumps(result))


def other_config(folder: Path, group: str, **values: Any) -> None:
    config = json.loads((folder / "result.json").read_text())["config"]
    change_result(folder, config={**config, group: {**config[group], **values}})


def unfinish(folder: Path) -> None:
    (folder / "result.json").unlink()


def fail(folder: Path) -> None:
    unfinish(folder)
    failure = {"status": "failed", "error": "the loss is no number\nmore", "failures": []}
    (folder / "failure.json").write_text(json.dumps(failure))


UNUSABLE = {
    "unfinished": (unfinish, ["unfinished", "finish it: tinylab train --from"]),
    "failed": (fail, ["failed: the loss is no number", "tinylab train --from"]),
    "cut result": (lambda f: (f / "result.json").write_text("{"), ["cannot be read", "--from"]),
    "strange result": (lambda f: (f / "result.json").write_text('{"status": "finished"}'), ["not"]),
    "older result": (older_result, ["another version", "normalization", "fresh=true"]),
    "newer result": (lambda f: change_result(f, format=99), ["format 99", "\n  update tinylab"]),
    "newer key": (lambda f: other_config(f, "optim", lrr=1), ["another version", "lrr"]),
    "newer model": (lambda f: other_config(f, "model", name="vit"), ["another version", "vit"]),
    "other network": (lambda f: other_config(f, "model", hidden=9), ["another version", "hidden"]),
    "value out of range": (lambda f: other_config(f, "model", hidden=-9), ["model.hidden=-9"]),
    "damaged weights": (lambda f: break_zip(f / "best.ckpt"), ["best.ckpt", "delete", "--from"]),
    "no weights": (lambda f: (f / "best.ckpt").unlink(), ["best.ckpt", "No such file"]),
    "empty weights": (lambda f: (f / "best.ckpt").write_bytes(b""), ["best.ckpt", "delete"]),
    "other weights": (other_weights, ["best.ckpt", "its weights are not those that were tested"]),
    "weights of another run": (other_run, ["best.ckpt", "belongs to run another"]),
    "newer format": (newer_format, ["best.ckpt", "format 99"]),
}


@pytest.mark.parametrize(("spoil", "said"), UNUSABLE.values(), ids=UNUSABLE.keys())
def test_a_run_that_cannot_be_used_is_refused_with_the_reason_and_the_remedy(
    spoil: Any, said: list[str], copied_run: Path
) -> None:
    spoil(copied_run)
    assert is_run(copied_run)
    with pytest.raises(UserError) as caught:
        load([copied_run])
    message = str(caught.value)
    for words in [*said, copied_run.name if "out of range" not in said else ""]:
        assert words in message or words == copied_run.name
    assert len(message.splitlines()) <= 2


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(UserError, match="expected the folder of a finished run"):
            load([path])


def test_the_remedy_for_lost_weights_works(copied_run: Path) -> None:
    before = checkpoint.load(copied_run / "best.ckpt")["model"]
    (copied_run / "best.ckpt").unlink()
    with pytest.raises(UserError) as caught:
        load([copied_run])
    [command] = [line.partition(": ")[2] for line in str(caught.value).splitlines()[1:]]
    (copied_run / "result.json").unlink()
    assert cli.run(command.split()[1:]) == 0
    after = load([copied_run]).first.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_run_of_other_code_is_used_and_that_is_said(
    copied_run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environment = json.loads((copied_run / "result.json").read_text())["environment"]
    change_result(copied_run, environment={**environment, "code_sha256": "other"})
    load([copied_run])
    assert "trained by another version of tinylab's code" in capsys.readouterr().out


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_no_file_of_a_run_can_execute_code(copied_run: Path, tmp_path: Path) -> None:
    trap = tmp_path / "trap"
    with zipfile.ZipFile(copied_run / "best.ckpt") as archive:
        inner = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(copied_run / "best.ckpt", "w") as archive:
        for name, content in inner.items():
            hostile = name.endswith("data.pkl")
            archive.writestr(name, pickle.dumps(Bomb(trap), protocol=2) if hostile else content)
    with pytest.raises(
        UserError, match=r"best\.ckpt: cannot be used: it is damaged or asks to run code"
    ) as caught:
        load([copied_run])
    assert "weights_only" not in str(caught.value), "torch's advice is to read it all the same"
    for hostile in (
        f"!!python/object/apply:os.mkdir ['{trap}']",
        f"hydra.launcher._target_: os.mkdir\nhydra.launcher.path: {trap}",
        f"hydra: {{launcher: {{_target_: os.mkdir, path: {trap}}}}}",
        "-m: 1",
        "dataset: {name: ../../../evil}",
        "just a text",
    ):
        (copied_run / "config.yaml").write_text(hostile)
        with pytest.raises(UserError, match=r"--from|expected the folder of a run") as caught:
            replay(copied_run, RunFolder(copied_run).config(), [])
        assert len(str(caught.value).splitlines()) <= 2
    assert not trap.exists()


def test_a_config_is_restored_from_a_result(digits_run: Path) -> None:
    stored = json.loads((digits_run / "result.json").read_text())["config"]
    composed: list[Config] = []
    run_hydra(
        lambda cfg: composed.append(to_config(cfg)),
        replay(digits_run, RunFolder(digits_run).config(), []),
    )
    restored = restore(stored)
    restored.outputs = composed[0].outputs
    assert restored == composed[0]
    del stored["sweep"]
    assert restore(stored).sweep.retry_failed, "a group that was not there yet has its defaults"


def test_pretrained_weights_are_not_fetched_to_be_replaced(
    copied_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = load([copied_run]).first.model
    asked: list[Any] = []

    def build(config: Any, *_: object) -> torch.nn.Module:
        asked.append(config)
        return network

    monkeypatch.setattr("tinylab.models.build", build)
    config = json.loads((copied_run / "result.json").read_text())["config"]
    pretrained = {"name": "torchvision", "arch": "resnet18", "weights": "DEFAULT"}
    change_result(copied_run, config={**config, "model": pretrained})
    trained = load([copied_run]).first
    assert (asked[0].arch, asked[0].weights) == ("resnet18", None)
    assert trained.config.model.weights == "DEFAULT"  # type: ignore[attr-defined]


def test_a_message_names_a_few_classes_of_many() -> None:
    assert few(["a", "b"]) == "a, b"
    assert few([str(k) for k in range(1600)]).endswith("18, 19 and 1580 more")
