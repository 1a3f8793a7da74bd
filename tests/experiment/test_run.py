"""A run from Python: its events, what it leaves behind, and what it gives back."""

import contextlib
import gc
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from option_records import AdamConfig, DigitsConfig, MlpConfig
from tensorboard_kit import read_scalars
from tinylab import cli
from tinylab.config.schema import Config, TrainConfig
from tinylab.errors import Pruned, Stopped
from tinylab.experiment import run as experiment
from tinylab.experiment.run import RunDone, RunStarted
from tinylab.inference import load_ensemble, the_run
from tinylab.store.folder import RunFolder, run_folder
from tinylab.store.run import open_run
from tinylab.training.loop import EpochDone, StepDone

pytestmark = pytest.mark.costly


def config(outputs: Path, epochs: int = 2) -> Config:
    return Config(
        dataset=DigitsConfig(), model=MlpConfig(layers=0), optim=AdamConfig(), threads=1,
        train=TrainConfig(epochs=epochs, batch_size=512), outputs=str(outputs),
    )  # fmt: skip


def switches() -> dict[str, Any]:
    """What is one for the whole process."""
    return {
        "threads": torch.get_num_threads(),
        "deterministic": torch.get_deterministic_debug_mode(),
        "cudnn": [torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic],
        "fill": torch.utils.deterministic.fill_uninitialized_memory,
        "generator": torch.get_rng_state().tolist(),
        "variables": dict(os.environ),
        "gc": gc.get_threshold(),
        "signals": {number: signal.getsignal(number) for number in signal.valid_signals()},
        "streams": (sys.stdout, sys.stderr),
        "arguments": list(sys.argv),
    }


# In a process of its own, as a notebook is: the tests' own has been through many runs.
NOTEBOOK = """
import sys
sys.path[:0] = [{tests!r}, {kit!r}]
from pathlib import Path
import sklearn  # it sets variables when it is imported
import torch
from test_run import config, experiment, switches
torch.set_num_threads(3)
torch.manual_seed(7)
torch.utils.deterministic.fill_uninitialized_memory = True
torch.set_deterministic_debug_mode("warn")
before = switches()
experiment.run(config(Path({outputs!r})), "a test")
after = switches()
print([name for name in before if before[name] != after[name]])
"""


def test_a_run_from_python_leaves_the_process_as_it_was(tmp_path: Path) -> None:
    tests = Path(__file__).parent
    code = NOTEBOOK.format(tests=str(tests), kit=str(tests.parent), outputs=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize("fails", [False, True])
def test_a_command_leaves_the_process_as_it_was(
    fails: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    words = ["train", "model=mlp", "threads=1", "train.epochs=1", f"outputs={tmp_path}"]
    before = switches()
    assert cli.run([*words, "optim.lr=1e30", "optim=sgd"] if fails else words) == int(fails)
    after = switches()
    assert [name for name in before if before[name] != after[name]] == []


def test_predictions_leave_the_process_as_it_was(digits_run: Path) -> None:
    before = switches()
    ensemble = load_ensemble([the_run(digits_run)], "cpu")
    ensemble.probabilities(np.zeros((2, 1, 8, 8), np.uint8))
    after = switches()
    assert [name for name in before if before[name] != after[name]] == []


def test_a_run_yields_its_steps_its_epochs_and_its_result(tmp_path: Path) -> None:
    seen = list(experiment.events(config(tmp_path), "a test"))
    kinds = [StepDone] * 3 + [EpochDone]
    assert [type(event) for event in seen] == [RunStarted, *kinds, *kinds, RunDone]
    again = list(experiment.events(config(tmp_path), "a test"))
    assert [type(event) for event in again] == [RunDone]
    assert again[0].result.weights_sha256 == seen[-1].result.weights_sha256  # type: ignore[union-attr]


@pytest.mark.parametrize("leaves_at", [StepDone, EpochDone])
def test_who_leaves_a_run_can_go_on_with_it_at_once(
    leaves_at: type[StepDone | EpochDone], tmp_path: Path
) -> None:
    with contextlib.closing(experiment.events(config(tmp_path), "a test")) as events:
        for event in events:
            if isinstance(event, leaves_at):
                break
    folder = run_folder(config(tmp_path)).path
    assert not (folder / "failure.json").exists()
    assert (folder / "last.ckpt").exists() == (leaves_at is EpochDone)
    straight = experiment.run(config(tmp_path / "straight"), "a test")
    resumed = experiment.run(config(tmp_path), "a test")
    assert resumed.weights_sha256 == straight.weights_sha256
    assert len(resumed.resumed_at) == (leaves_at is EpochDone)


def test_a_run_that_is_pruned_says_so_in_its_log(tmp_path: Path) -> None:
    events = experiment.events(config(tmp_path), "a test")
    while not isinstance(next(events), EpochDone):
        pass
    with pytest.raises(Pruned):
        events.throw(Pruned())
    folder = run_folder(config(tmp_path)).path
    assert "pruned, checkpoint saved" in (folder / "train.log").read_text()
    assert (folder / "last.ckpt").exists()
    assert not (folder / "failure.json").exists()


@pytest.mark.parametrize("end", [SystemExit(143), KeyboardInterrupt(), Stopped(15)])
def test_a_run_that_is_asked_to_end_has_not_failed(end: BaseException, tmp_path: Path) -> None:
    """Nor where an earlier try failed; submitit ends a job by SystemExit to queue it again."""
    files = run_folder(config(tmp_path))
    files.record_failure(ValueError("too hot"))
    assert open_run(files.path).state == "failed"
    events = experiment.events(config(tmp_path), "a test")
    while not isinstance(next(events), EpochDone):
        pass
    with pytest.raises(type(end)):
        events.throw(end)
    assert open_run(files.path).state == "stopped"
    result = experiment.run(config(tmp_path), "a test")
    assert [each["error"] for each in result.failures] == ["ValueError: too hot"]


# ---------------------------------------------------------------- after the result


def unable(*_: Any, **__: Any) -> None:
    raise RuntimeError("no pens left\nsecond line")


@pytest.mark.parametrize(
    "broken",
    ["ui.plots.confusion", "ui.tensorboard.RunTracker.finish"],
)
def test_figures_that_cannot_be_drawn_do_not_cost_the_result(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    files = run_folder(config(tmp_path))
    with monkeypatch.context() as patch:
        patch.setattr(f"tinylab.{broken}", unable)
        result = experiment.run(config(tmp_path), "a test")
    said = capsys.readouterr().out
    assert "cannot make the figures (RuntimeError: no pens left);" in said
    assert "second line" not in said
    assert f"test    accuracy {result.test.accuracy:.2%}" in said
    assert files.result() == result
    assert not files.failure_file.exists()
    assert not files.is_presented()
    check_presented_again(files, capsys)


WRITER = "torch.utils.tensorboard.writer.SummaryWriter"


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize(
    "broken",
    [
        f"{WRITER}.__init__",
        f"{WRITER}.add_text",
        "tensorboard.summary.writer.record_writer.RecordWriter.write",
        "tinylab.ui.plots.gallery",
    ],
)
def test_what_only_shows_a_run_does_not_cost_it(
    broken: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(broken, full)
        result = experiment.run(config(tmp_path), "a test")
    said = capsys.readouterr().out
    assert said.count("No space left on device") <= 2, said
    assert "cannot make the figures (" in said
    files = run_folder(config(tmp_path))
    assert files.result() == result
    assert not files.failure_file.exists()
    check_presented_again(files, capsys)


@pytest.mark.parametrize("lost", ["confusion_file", "all"])
def test_what_a_kill_after_the_result_left_out_is_made_by_the_same_command(
    lost: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    experiment.run(config(tmp_path), "a test")
    capsys.readouterr()
    files = run_folder(config(tmp_path))
    files.confusion_file.unlink()
    if lost == "all":
        files.curves_file.unlink()
        files.clear_events()
    check_presented_again(files, capsys)


def check_presented_again(files: RunFolder, capsys: pytest.CaptureFixture[str]) -> None:
    """One call makes all that is missing, trains nothing, and leaves the result as it is."""
    result = files.result_file.read_bytes()
    words = ["train", "model=mlp", "model.layers=0", "threads=1", "train.epochs=2"]
    words += ["train.batch_size=512", f"outputs={files.path.parents[1]}"]
    assert cli.run(words) == 0
    said = capsys.readouterr().out
    assert "already finished, except for its figures" in said
    assert "epoch 1/2" not in said
    assert files.result_file.read_bytes() == result
    assert files.curves_file.exists()
    assert files.is_presented()
    scalars = read_scalars(files.path)
    assert [step for step, _, _ in scalars["loss/train"]] == [3, 6]
    actual = files.result()
    assert actual is not None
    [(_, value, _)] = scalars["final/test_accuracy"]
    assert value == pytest.approx(actual.test.accuracy)
    assert cli.run(words) == 0
    assert "already finished" in capsys.readouterr().out
