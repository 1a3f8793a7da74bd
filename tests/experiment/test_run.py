"""A run from Python: its events, what it leaves behind, and what it gives back."""

import contextlib
from pathlib import Path

import pytest

from tinylab.config.schema import AdamConfig, Config, DigitsConfig, MlpConfig, TrainConfig
from tinylab.errors import Pruned
from tinylab.experiment import run as experiment
from tinylab.experiment.run import RunDone
from tinylab.store.folder import folder_of
from tinylab.training.loop import EpochDone, StepDone


def config(outputs: Path, epochs: int = 2) -> Config:
    return Config(
        dataset=DigitsConfig(), model=MlpConfig(layers=0), optim=AdamConfig(), threads=1,
        train=TrainConfig(epochs=epochs, batch_size=512), outputs=str(outputs),
    )  # fmt: skip


def test_a_run_yields_its_steps_its_epochs_and_its_result(tmp_path: Path) -> None:
    seen = list(experiment.events(config(tmp_path), "a test"))
    kinds = [StepDone] * 3 + [EpochDone]
    assert [type(event) for event in seen] == [*kinds, *kinds, RunDone]
    again = list(experiment.events(config(tmp_path), "a test"))
    assert [type(event) for event in again] == [RunDone]
    assert again[0].result["weights_sha256"] == seen[-1].result["weights_sha256"]  # type: ignore[union-attr]


@pytest.mark.parametrize("leaves_at", [StepDone, EpochDone])
def test_who_leaves_a_run_can_go_on_with_it_at_once(
    leaves_at: type[StepDone | EpochDone], tmp_path: Path
) -> None:
    with contextlib.closing(experiment.events(config(tmp_path), "a test")) as events:
        for event in events:
            if isinstance(event, leaves_at):
                break
    folder = folder_of(config(tmp_path))
    assert not (folder / "failure.json").exists()
    assert (folder / "last.ckpt").exists() == (leaves_at is EpochDone)
    straight = experiment.run(config(tmp_path / "straight"), "a test")
    resumed = experiment.run(config(tmp_path), "a test")
    assert resumed["weights_sha256"] == straight["weights_sha256"]
    assert len(resumed["resumed_at"]) == (leaves_at is EpochDone)


def test_a_run_that_is_pruned_says_so_in_its_log(tmp_path: Path) -> None:
    events = experiment.events(config(tmp_path), "a test")
    while not isinstance(next(events), EpochDone):
        pass
    with pytest.raises(Pruned):
        events.throw(Pruned())
    folder = folder_of(config(tmp_path))
    assert "pruned, checkpoint saved" in (folder / "train.log").read_text()
    assert (folder / "last.ckpt").exists()
    assert not (folder / "failure.json").exists()
