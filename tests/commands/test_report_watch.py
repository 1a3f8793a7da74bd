"""`tinylab report SWEEP --watch`: the page of a sweep while it runs."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from compare_kit import config, write_run
from tinylab import cli
from tinylab.commands import report
from tinylab.config.identity import run_id

RELOAD = '<meta http-equiv="refresh" content="5.0">'


def write_sweep(outputs: Path, seeds: int, **row: Any) -> Path:
    folder = outputs / "sweeps" / "x"
    folder.mkdir(parents=True)
    jobs = [
        {"run_id": run_id(config(seed=seed)), "overrides": {}, "state": "missing", **row}
        for seed in range(seeds)
    ]
    (folder / "sweep.json").write_text(json.dumps({"arguments": [], "jobs": jobs}))
    return folder


@pytest.fixture
def meanwhile(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Callable[[], None]]], None]:
    """What happens while the command sleeps, one thing after another; then it must have ended."""

    def of(steps: list[Callable[[], None]]) -> None:
        waiting = iter(steps)
        monkeypatch.setattr(report.time, "sleep", lambda seconds: next(waiting)())

    return of


def test_the_page_is_written_as_jobs_end_and_last_when_all_have(
    tmp_path: Path, meanwhile: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path, 2)
    page = folder / "report.html"
    seen: list[str | None] = []

    def look() -> None:
        seen.append(page.read_text() if page.exists() else None)

    def first_ends() -> None:
        look()
        write_run(tmp_path, 81, seed=0)

    def second_ends() -> None:
        look()
        write_run(tmp_path, 85, seed=1)

    meanwhile([first_ends, look, second_ends])
    assert cli.run(["report", str(folder), "--watch"]) == 0
    nothing, one, same = seen
    assert nothing is None, "no run is finished yet"
    assert one is not None
    assert RELOAD in one
    assert "81" in one
    assert same == one
    assert RELOAD not in page.read_text(), "there is nothing more to come"
    assert "the sweep has ended" in capsys.readouterr().out


def test_an_interrupt_leaves_a_page_that_rests(
    tmp_path: Path, meanwhile: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_sweep(tmp_path, 2)
    write_run(tmp_path, 81, seed=0)

    def interrupt() -> None:
        assert RELOAD in (folder / "report.html").read_text()
        raise KeyboardInterrupt

    meanwhile([interrupt])
    assert cli.run(["report", str(folder), "--watch"]) == 0
    assert RELOAD not in (folder / "report.html").read_text()
    assert "stopped; the sweep keeps running" in capsys.readouterr().out


def test_repeats_that_will_not_run_are_not_waited_for(tmp_path: Path, meanwhile: Any) -> None:
    folder = write_sweep(tmp_path, 3)
    state = json.loads((folder / "sweep.json").read_text())
    for row, setting in zip(state["jobs"], ("finished", "pruned", "failed"), strict=True):
        row |= {"setting": setting, "state": "waiting"}
    (folder / "sweep.json").write_text(json.dumps(state))
    write_run(tmp_path, 81, seed=0)
    meanwhile([])
    assert cli.run(["report", str(folder), "--watch"]) == 0


WAITING = """
import time
from pathlib import Path

import tinylab
from torch import nn


@tinylab.model
class Waiting(nn.Module):
    def __init__(self, image_shape, num_classes, width: int = 4):
        super().__init__()
        while not Path(f"go{width}").exists():
            time.sleep(0.05)
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, num_classes))

    def forward(self, images):
        return self.layers(images)
"""


@pytest.mark.costly
def test_a_sweep_keeps_its_page_up_to_date_by_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """``sweep.report=live``: each job waits until the page shows those before it."""
    monkeypatch.chdir(tmp_path)
    Path("waiting.py").write_text(WAITING)
    page = Path("outputs/sweeps/live/report.html")
    shown = [""]

    def let_them_run() -> None:
        until = time.monotonic() + 120
        for width in (4, 5, 6):
            Path(f"go{width}").touch()
            text = shown[-1]
            while width < 6 and text == shown[-1] and time.monotonic() < until:
                time.sleep(0.05)
                text = page.read_text() if page.exists() else ""
            shown.append(text)

    looking = threading.Thread(target=let_them_run)
    looking.start()
    sweep = ["code=waiting.py", "model=waiting", "model.width=4,5,6", "train.epochs=1", "threads=1"]
    assert cli.run(["train", "-m", *sweep, "name=live", "jobs=1", "sweep.report=live"]) == 0
    looking.join()
    assert f"report  {page}, written when the first job ends" in capsys.readouterr().out
    first, second = shown[1:3]
    assert first != second, "it shows the second job too"
    assert RELOAD in first
    assert RELOAD in second
    last = page.read_text()
    assert RELOAD not in last
    assert last != second, "the ordinary page of all three"


@pytest.mark.parametrize("arguments", [["outputs"], ["--card", "x"], ["x", "x"]])
def test_only_one_sweep_can_be_watched(
    arguments: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["report", *arguments, "--watch"]) == 1
    assert "--watch: expected the folder of one sweep" in capsys.readouterr().err
