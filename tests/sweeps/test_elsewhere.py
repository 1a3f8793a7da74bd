"""What is shown of a grid while one of Hydra's launchers runs it, and how its jobs end."""

import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from hydra.plugins.launcher import Launcher

from run_folders import begun, config, finished_result
from tinylab.store.folder import RunFolder
from tinylab.sweeps import elsewhere
from tinylab.sweeps.job import Job


class Cluster(Launcher):
    """A launcher whose ``launch`` is the test's own function."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work = work

    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Any:
        return self.work()


def jobs(outputs: Path) -> list[Job]:
    made = [dataclasses.replace(config(seed=seed), outputs=str(outputs)) for seed in range(3)]
    return [Job([f"seed={c.seed}"], {"seed": str(c.seed)}, c) for c in made]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr("tinylab.ui.display.say", lines.append)
    monkeypatch.setattr(elsewhere, "say", lines.append)
    monkeypatch.setattr(elsewhere, "LOOK_SECONDS", 0.01)
    return lines


def wait_until(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def finish(outputs: Path, seed: int) -> None:
    folder = begun(outputs, seed=seed)
    result = finished_result(config(seed=seed))
    (folder / "result.json").write_text(json.dumps(result))


def test_each_job_is_said_when_it_ends_and_not_when_all_have(
    tmp_path: Path, said: list[str]
) -> None:
    def work() -> list[int]:
        for count, seed in enumerate((2, 0)):
            finish(tmp_path, seed)
            wait_until(lambda count=count: len(said) == count + 2)
        RunFolder(begun(tmp_path, seed=1)).record_failure(ValueError("too hot"))
        return [1, 2, 3]

    assert elsewhere.launch(Cluster(work), jobs(tmp_path), 5) == [1, 2, 3]
    assert said[0] == (
        f"Cluster runs 3 jobs; tinylab list --outputs {tmp_path} shows their progress"
    )
    assert said[1].startswith("3 of 5  seed=2  finished  val accuracy 80.00%  |  0:00 left")
    assert said[2].startswith("4 of 5  seed=0  finished")
    assert said[3] == "5 of 5  seed=1  failed  ValueError: too hot"


def test_what_lay_there_before_is_no_end(tmp_path: Path, said: list[str]) -> None:
    """An outdated result, and a failure that is tried again."""
    finish(tmp_path, 0)
    RunFolder(begun(tmp_path, seed=1)).record_failure(ValueError("too hot"))
    elsewhere.launch(Cluster(lambda: time.sleep(0.1)), jobs(tmp_path), 3)
    assert len(said) == 1


def test_a_launcher_that_gives_up_is_said_in_a_line(tmp_path: Path, said: list[str]) -> None:
    def work() -> None:
        raise RuntimeError("Could not detect sbatch\nmore words")

    assert elsewhere.launch(Cluster(work), jobs(tmp_path), 3) == []
    assert said[-1] == "Cluster: RuntimeError: Could not detect sbatch"


def test_nothing_that_is_only_shown_ends_the_sweep(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise OSError("stale file handle")

    monkeypatch.setattr(elsewhere, "say_end", broken)
    elsewhere.launch(Cluster(lambda: finish(tmp_path, 0)), jobs(tmp_path), 3)
    assert len(said) == 1
