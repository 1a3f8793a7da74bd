"""What a run says, and what a sweep shows on a terminal while it goes on."""

import io
import itertools
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tinylab.ui import console, display
from tinylab.ui.display import RunDisplay, SweepDisplay

Screen = Callable[[SweepDisplay], list[str]]


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    """The live lines of a display on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setattr(display, "is_terminal", lambda: True)

    def lines(shown: SweepDisplay) -> list[str]:
        assert shown._screen is not None
        console = Console(file=io.StringIO(), width=80, color_system=None)
        with console.capture() as captured:
            console.print(shown._screen.live.get_renderable())
        return [line.rstrip() for line in captured.get().splitlines()]

    return lines


def test_jobs_that_end_elsewhere_are_counted_too(capsys: pytest.CaptureFixture[str]) -> None:
    shown = SweepDisplay(total=5, done=1)
    shown.start(0, "seed=0")
    shown.catch_up(3)
    shown.end(0, "seed=0", "finished", "")
    shown.start(1, "seed=1")
    shown.catch_up(4)
    shown.end(1, "seed=1", "finished", "")
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("4 of 5  seed=0  finished  |  ")
    assert second == "5 of 5  seed=1  finished"


def test_a_stopped_job_is_not_done(capsys: pytest.CaptureFixture[str]) -> None:
    shown = SweepDisplay(total=2, done=0)
    shown.start(0, "seed=0")
    shown.end(0, "seed=0", "stopped", "")
    assert capsys.readouterr().out.startswith("0 of 2  seed=0  stopped")


def test_the_sum_the_best_and_every_running_job(screen: Screen) -> None:
    shown = SweepDisplay(total=12, done=3)
    for number in range(3):
        shown.start(number, f"model=mlp seed={number}")
    shown.end(0, "model=mlp seed=0", "finished", "val accuracy 98.76%")
    shown.show_best("validation accuracy 98.76%  model=mlp")
    shown.end(1, "model=mlp seed=1", "failed", "out of memory")
    shown.progress(2, 0.5)
    shown.epoch(2, {"epoch": 5, "val_accuracy": 0.875})
    total, best, job = screen(shown)
    assert total.startswith("sweep ━")
    assert " 46%  4 of 12 done, 1 failed, 1 running, " in total
    assert best == "best  validation accuracy 98.76%  model=mlp"
    assert job.startswith("model=mlp seed=2 ━")
    assert job.endswith(" 50%  epoch 5, val 87.50%")


def test_without_validation_there_is_the_epoch(screen: Screen) -> None:
    shown = SweepDisplay(total=1, done=0)
    shown.start(0, "seed=1")
    shown.epoch(0, {"epoch": 5, "val_accuracy": None})
    assert screen(shown)[-1].endswith("  0%  epoch 5")


@pytest.mark.parametrize(
    ("label", "name"),
    {
        "as it is typed": ("split.seed=0 model.filters=14", "split.seed=0 model.filters=14"),
        "a list": ("augment.steps=[flip,crop]", "augment.steps=[flip,crop]"),
        "short keys": (
            "seed=0 model.filters=14 optim.lr=0.001 augment.shift=0.5",
            "seed=0 filters=14 lr=0.001 shift=0.5 ",
        ),
        "cut": ("model.hidden=1 " * 5, "hidden=1 hidden=1 hidden=1 hidden=1 h…"),
    }.values(),
)
def test_a_label_leaves_room_for_the_numbers(screen: Screen, label: str, name: str) -> None:
    shown = SweepDisplay(total=1, done=0)
    shown.start(0, label)
    shown.epoch(0, {"epoch": 100, "val_accuracy": 1.0})
    shown.progress(0, 1.0)
    line = screen(shown)[-1]
    assert line.startswith(name)
    assert line.endswith("━━━━━━━━━━ 100%  epoch 100, val 100.00%")
    assert len(line) <= 80


def test_a_run_resumed_after_an_epochs_last_step_says_that_epoch(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {
        "epoch": 3, "train_loss": 0.5, "train_accuracy": 0.75, "val_loss": None,
        "images_per_second": 1000.0,
    }  # fmt: skip
    with RunDisplay(epochs=4) as display:
        display.epoch(row)
    assert capsys.readouterr().out.startswith("epoch 3/4  train loss 0.5000  accuracy  75.00%")


@pytest.mark.parametrize(
    ("value", "said"), [(0.25, "worst_class 0.2500  |"), (None, "worst_class -")]
)
def test_the_metric_that_chooses_the_epoch_is_shown(value: float | None, said: str) -> None:
    shown = {**row(1), "val_worst_class": value}
    assert said in display.epoch_line(shown, 4, 0, "worst_class")
    assert "worst_class" not in display.epoch_line(shown, 4, 0, "loss")


def test_a_training_of_less_than_a_second_took_some_time() -> None:
    assert display.short_duration(0.31) == "0.3 s"
    assert display.short_duration(75) == "1:15"


def row(epoch: int) -> dict[str, Any]:
    losses = dict.fromkeys(("train_loss", "train_accuracy", "val_loss", "val_accuracy"), 0.5)
    return {"epoch": epoch, "images_per_second": 1.0, **losses}


@pytest.mark.parametrize(
    ("slow", "is_threaded", "said"), [(0.5, True, 1), (0.5, False, 0), (0.001, True, 0)]
)
def test_irregular_steps_of_several_threads_are_said_once(
    slow: float,
    is_threaded: bool,
    said: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    clock = iter(itertools.accumulate(slow if n % 10 == 0 else 0.001 for n in range(100)))
    monkeypatch.setattr(display.time, "perf_counter", lambda: next(clock))
    with RunDisplay(2, lambda: is_threaded) as shown:
        for epoch in (0, 1):
            for step in range(40):
                shown.step(epoch, step + 1, 40, str)
            shown.epoch(row(epoch + 1))
    assert capsys.readouterr().out.count("threads=1 is faster") == said


@pytest.mark.parametrize(
    "variable",
    ["TERM=xterm", "TERM=dumb", "NO_COLOR=1", "NO_COLOR=", "JPY_PARENT_PID=17",
     "COLAB_RELEASE_TAG=release", "KAGGLE_KERNEL_RUN_TYPE=Interactive",
     "MPLBACKEND=module://matplotlib_inline.backend_inline", "MPLBACKEND=agg",
     "TERM_PROGRAM=vscode"],
)  # fmt: skip
def test_bars_are_for_terminals_that_can_redraw_them(
    variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A notebook's ``!tinylab`` runs in a pseudo terminal, and prints each redrawn bar again.

    In a kernel of VS Code only matplotlib's backend tells; its terminal is one.
    """
    terminals = ("TERM=xterm", "NO_COLOR=", "MPLBACKEND=agg", "TERM_PROGRAM=vscode")
    for name in ("NO_COLOR", "MPLBACKEND", *console.NOTEBOOKS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-color")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    assert console.is_terminal()
    monkeypatch.setenv(*variable.split("="))
    assert console.is_terminal() == (variable in terminals)


@pytest.mark.costly
def test_a_sweep_in_a_notebook_is_plain_lines(tmp_path: Path) -> None:
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    code = "from tinylab.ui.display import SweepDisplay\n"
    code += "with SweepDisplay(2, 0) as shown:\n"
    code += "    for n in (0, 1): shown.start(n, f'seed={n}'); shown.progress(n, 0.5)\n"
    code += "    for n in (0, 1): shown.end(n, f'seed={n}', 'finished', '')\n"
    said = {}
    for notebook in ({}, {"JPY_PARENT_PID": "17"}):
        unset = ("NO_COLOR", "MPLBACKEND", *console.NOTEBOOKS)
        kept = {name: value for name, value in os.environ.items() if name not in unset}
        env = {**kept, "TERM": "xterm-color", **notebook}
        subprocess.run([sys.executable, "-c", code], stdout=theirs, env=env, check=True)
        said[bool(notebook)] = os.read(ours, 100_000).decode()
    assert "\x1b[" in said[False]
    assert "\x1b" not in said[True]
    assert [line[:24] for line in said[True].splitlines()] == [
        "1 of 2  seed=0  finished", "2 of 2  seed=1  finished",
    ]  # fmt: skip
