"""What a run starts from: here, where its images are kept."""

import dataclasses
from pathlib import Path

import pytest
import torch

from tinylab.config.compose import run_hydra, to_config
from tinylab.config.schema import Config
from tinylab.experiment import present
from tinylab.experiment import run as experiment
from tinylab.experiment.prepare import PARTS, prepare, threads_for
from tinylab.store.result import Result
from tinylab.system import machine, runtime


def config(tmp_path: Path, *further: str) -> Config:
    configs: list[Config] = []
    overrides = ["train.epochs=1", "model=mlp", "device=cpu", "threads=1", f"outputs={tmp_path}"]
    overrides += further
    run_hydra(lambda composed: configs.append(to_config(composed)), overrides)
    return configs[0]


@pytest.mark.costly
def test_a_small_device_has_the_images_streamed_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    results: list[Result] = []
    for room in (float("inf"), 1797 * 64 - 1):  # bytes; one is lacking
        monkeypatch.setattr(runtime, "room_for_images", lambda device, room=room: room)
        one = config(tmp_path / str(room))
        assert {prepare(one).parts[name].streamed for name in PARTS} == {room < 1e9}
        results.append(experiment.run(one, "a test"))
        said = capsys.readouterr().out
        assert ("kept in main memory and streamed" in " ".join(said.split())) == (room < 1e9)
    for key in ("weights_sha256", "test", "val", "train", "confusion"):
        assert getattr(results[0], key) == getattr(results[1], key)


def test_few_validation_images_are_said_to_choose_the_epoch(tmp_path: Path) -> None:
    few, plain = present._few_validation_images, config(tmp_path)
    assert few(plain, 16, True) == (
        "only 16 validation images to choose the epoch: split.val=0.2 gives at least 30, "
        "train.weights=last needs none"
    )
    remedy = "only 5 validation images to choose the epoch: train.weights=last needs none"
    assert few(plain, 5, True) == remedy, "of 50 images, 30 cannot be spared"
    assert few(config(tmp_path, "split=crossval"), 5, False) == remedy
    assert not few(plain, present.FEW_IMAGES, True)
    assert not few(plain, 0, True)
    train = dataclasses.replace(plain.train, weights="last")
    last = dataclasses.replace(plain, train=train)
    assert not few(last, 5, True)


def test_a_run_says_which_fold_it_is_and_that_no_epoch_is_augmented(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = ["split=crossval", "augment.flip=true", "augment.no_aug_epochs=1"]
    present.introduce(prepare(config(tmp_path, *keys)), tmp_path)
    said = capsys.readouterr().out
    assert "fold 0 of 5 is held out; all folds: -m split.fold=0,1,2,3,4\n" in said
    assert "no epoch is augmented: train.epochs=1 is not above augment.no_aug_epochs=1\n" in said
    present.introduce(prepare(config(tmp_path)), tmp_path)
    said = capsys.readouterr().out
    assert "held out" not in said
    assert "augmented" not in said


def test_main_memory_has_room_for_all_images() -> None:
    assert runtime.room_for_images(torch.device("cpu")) == float("inf")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_images_may_take_half_of_a_free_card() -> None:
    device = torch.device("cuda:0")
    free, _ = torch.cuda.mem_get_info(device)
    assert 0 < runtime.room_for_images(device) <= free / 2 + 2**20


@pytest.mark.parametrize(
    ("batch_size", "limit", "expected"), [(32, 8, 1), (10**4, 2, 2), (10**4, 64, 11), (1, 8, 1)]
)
def test_threads_follow_from_the_work_of_a_step(
    batch_size: int, limit: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tinylab.experiment.prepare.thread_limit", lambda: limit)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 70))
    assert threads_for(model, (1, 8, 8), batch_size) == expected


@pytest.mark.costly
def test_threads_follow_the_work_of_a_step_unless_they_are_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    one = dataclasses.replace(config(tmp_path), threads=None)
    assert experiment.run(one, "a test").environment.threads == 1
    chosen = dataclasses.replace(one, threads=2, seed=1)
    assert experiment.run(chosen, "a test").environment.threads == 2


@pytest.mark.parametrize(
    ("has_units", "overrides", "said"),
    [
        (True, ["model=resnet", "train.epochs=10000"], "bfloat16 is about 1.5 times as fast"),
        (True, ["model=resnet"], ""),  # too short to matter
        (True, ["model=mlp", "train.epochs=1000000"], ""),  # no convolution
        (True, ["model=resnet", "train.precision=bfloat16"], ""),
        (False, ["model=resnet", "train.precision=bfloat16"], "has no bfloat16 units"),
        (False, ["model=resnet", "train.epochs=10000"], ""),
        (None, ["model=resnet", "train.precision=bfloat16"], ""),
    ],
)
def test_what_bfloat16_would_change_is_said(
    has_units: bool | None, overrides: list[str], said: str, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(machine, "has_bfloat16", lambda: has_units)
    result = present._precision_hint(prepare(config(tmp_path, *overrides)), (1, 8, 8))
    assert said in result
    assert bool(said) == bool(result)
