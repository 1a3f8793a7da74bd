"""Worker processes of a sweep: what they are told, what they tell, how they die."""

import contextlib
import errno
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from option_records import AdamConfig, BaselineConfig, DigitsConfig
from tinylab.config.schema import Config, TrainConfig
from tinylab.errors import UserError
from tinylab.experiment import run as experiment
from tinylab.store.folder import RunFolder, run_folder
from tinylab.store.run import open_run
from tinylab.sweeps import worker
from tinylab.sweeps.cards import Room
from tinylab.sweeps.grid import Grid
from tinylab.sweeps.job import Job
from tinylab.sweeps.launch import launch
from tinylab.sweeps.pool import Pool
from tinylab.sweeps.worker import End, Epoch, Message

Capture = pytest.CaptureFixture[str]


def config(outputs: Path, epochs: int = 2, seed: int = 0) -> Config:
    return Config(
        dataset=DigitsConfig(), model=BaselineConfig(filters=2, hidden=8), optim=AdamConfig(),
        train=TrainConfig(epochs=epochs), seed=seed, threads=1, outputs=str(outputs),
    )  # fmt: skip


def tell(pool: Pool) -> Iterator[tuple[int, Message]]:
    while pool.running():
        yield from pool.messages()


@pytest.mark.costly
def test_jobs_tell_each_epoch_and_their_end(tmp_path: Path) -> None:
    epochs: dict[int, int] = {0: 0, 1: 0}
    ends = {}
    with Pool(1) as pool:
        for number in (0, 1):
            assert pool.has_room()
            pool.start(number, config(tmp_path, seed=number), "tinylab train")
            assert not pool.has_room()
            for who, message in tell(pool):
                assert who == number
                if isinstance(message, Epoch):
                    epochs[who] += 1
                    pool.answer(who, True)
                elif isinstance(message, End):
                    ends[who] = message.state
    assert epochs == {0: 2, 1: 2}
    assert ends == {0: "finished", 1: "finished"}
    result = json.loads((run_folder(config(tmp_path)).path / "result.json").read_text())
    assert result["command"] == "tinylab train"


@pytest.mark.costly
def test_a_worker_has_the_environment_of_its_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though the process that starts it may be older than both."""
    with Pool(1) as pool:
        pool.warm(1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Pool(1) as pool:
        pool.start(0, config(tmp_path, epochs=1), "")
        for number, message in tell(pool):
            if isinstance(message, Epoch):
                pool.answer(number, True)
    assert run_folder(config(tmp_path, epochs=1)).result() is not None
    assert (tmp_path / "cache" / "tinylab" / "code.json").is_file()


@pytest.mark.costly
def test_a_pruned_job_ends_after_that_epoch_and_can_go_on(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.start(0, config(tmp_path, epochs=50), "")
        epochs, ends = 0, []
        for _, message in tell(pool):
            if isinstance(message, Epoch):
                epochs += 1
                pool.answer(0, False)
            elif isinstance(message, End):
                ends.append(message)
    assert ends == [End("pruned")]
    assert epochs == 1
    folder = run_folder(config(tmp_path, epochs=50)).path
    assert (folder / "last.ckpt").exists()
    assert not (folder / "failure.json").exists()


@pytest.mark.costly
def test_a_worker_that_is_killed_costs_its_own_job_alone(tmp_path: Path) -> None:
    ends = {}
    with Pool(2) as pool:
        pool.start(0, config(tmp_path, epochs=5000), "")
        pool.start(1, config(tmp_path, seed=1), "")
        victim: int | None = None
        for number, message in tell(pool):
            if isinstance(message, Epoch):
                if number == 0 and victim is None:
                    [victim] = [
                        worker.process.pid for worker in pool._workers.values() if worker.job == 0
                    ]
                    os.kill(victim, signal.SIGKILL)
                pool.answer(number, True)
            elif isinstance(message, End):
                ends[number] = message
        assert pool.has_room()
    assert ends[1].state == "finished"
    assert ends[0] == End("failed", "its process was killed by signal 9 (out of memory?)")


@pytest.mark.costly
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGUSR1])
def test_a_job_whose_worker_is_asked_to_end_is_stopped_and_has_not_failed(
    signum: int, tmp_path: Path
) -> None:
    """As by SLURM before a preemption; the others go on."""
    ends = {}
    with Pool(1) as pool:
        pool.start(0, config(tmp_path, epochs=5000), "")
        for number, message in tell(pool):
            if isinstance(message, Epoch):
                pid = pool._workers[0].process.pid
                assert pid is not None
                os.kill(pid, signum)
                pool.answer(number, True)
            elif isinstance(message, End):
                ends[number] = message
    assert ends == {0: End("stopped")}
    files = RunFolder(next((tmp_path / "runs").glob("digits-*")))
    assert "stopped, checkpoint saved" in files.log_file.read_text()
    assert files.error() is None
    assert open_run(files.path).state == "stopped"


@pytest.mark.costly
def test_a_worker_that_is_asked_to_end_before_it_trains_has_not_failed(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.start(0, config(tmp_path, epochs=5000), "")
        pool._workers[0].process.terminate()
        assert [message for _, message in tell(pool)] == [End("stopped")]


@pytest.mark.costly
def test_leaving_the_pool_stops_what_runs_with_its_state_saved(tmp_path: Path) -> None:
    with Pool(1) as pool:
        pool.start(0, config(tmp_path, epochs=5000), "")
        for _, message in tell(pool):
            if isinstance(message, Epoch):
                break  # and leave its question unanswered
    assert not multiprocessing.active_children()
    assert (
        "stopped, checkpoint saved"
        in (
            run_folder(config(tmp_path)).path.parent
            / next(path.name for path in (tmp_path / "runs").glob("digits-*"))
            / "train.log"
        ).read_text()
    )


class _Silent:
    """A connection to nobody in particular."""

    def send(self, message: object) -> None:
        time.sleep(0)

    def recv(self) -> bool:
        return True


def test_a_fault_of_ours_in_a_job_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for count in (1, 2):

        def broken(config: Config, count: int = count) -> None:
            raise KeyError(f"bug {count}")

        monkeypatch.setattr(experiment, "prepare", broken)
        assert worker.train(config(tmp_path), "", _Silent()).state == "failed"  # type: ignore[arg-type]
        failure = json.loads((run_folder(config(tmp_path)).path / "failure.json").read_text())
        assert len(failure["failures"]) == count
        assert failure["error"] == f"KeyError: 'bug {count}'", "the last word is the newest"
    assert "Traceback" in (run_folder(config(tmp_path)).path / "train.log").read_text()


class FailingPool:
    """A pool of one in which each job fails at once, as its words say."""

    words = ""

    def __init__(self, *_: int) -> None:
        self.started: list[int] = []
        self._job: int | None = None

    def __enter__(self) -> "FailingPool":
        return self

    def __exit__(self, *_: object) -> None: ...

    def has_room(self) -> bool:
        return self._job is None

    def start(self, number: int, config: Config, command: str) -> None:
        self._job = number

    def running(self) -> bool:
        return self._job is not None

    def messages(self) -> list[tuple[int, End]]:
        assert self._job is not None
        number, self._job = self._job, None
        return [(number, End("failed", self.words))]


@pytest.mark.parametrize(
    ("fault", "ended"),
    [(errno.ENOSPC, 1), (errno.EDQUOT, 1), (errno.EACCES, 3)],
    ids=["no space", "quota", "no right"],
)
def test_a_full_disk_ends_a_sweep_at_its_first_job(
    fault: int, ended: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    configs = [config(tmp_path, seed=seed) for seed in range(3)]
    jobs = [Job([], {"seed": str(each.seed)}, each) for each in configs]
    monkeypatch.setattr(FailingPool, "words", f"x: cannot be written: {os.strerror(fault)}")
    monkeypatch.setitem(launch.__globals__, "Pool", FailingPool)
    refused = pytest.raises(UserError, match="the disk is full: free some space or choose another")
    with refused if ended == 1 else contextlib.nullcontext():
        launch(Grid(jobs, jobs), Room(1), 3)
    assert capsys.readouterr().out.count("failed  x: cannot be written") == ended
