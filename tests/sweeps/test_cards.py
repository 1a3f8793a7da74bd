"""Jobs that share GPUs: how many at once, what happens when memory is full, NVIDIA's MPS."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from option_records import AdamConfig, BaselineConfig, DigitsConfig
from tinylab.config.schema import Config, TrainConfig
from tinylab.store.folder import run_folder
from tinylab.sweeps import worker
from tinylab.sweeps.cards import Footprint, Room, room_for
from tinylab.sweeps.grid import Grid
from tinylab.sweeps.job import Job
from tinylab.sweeps.launch import launch
from tinylab.sweeps.worker import End, Message
from tinylab.system import machine, mps

Capture = pytest.CaptureFixture[str]
GB = 10**9
SMALL = 100_000_000  # multiply-adds: the baseline CNN at batch 128


def config(outputs: Path, seed: int = 0) -> Config:
    return Config(
        dataset=DigitsConfig(), model=BaselineConfig(filters=2, hidden=8), optim=AdamConfig(),
        train=TrainConfig(epochs=1), seed=seed, threads=1, outputs=str(outputs),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("jobs", "device", "threads", "gpus", "most", "cards", "begins_with"),
    [
        (None, "auto", None, 0, 4, 0, 4), (None, "auto", 2, 0, 2, 0, 2),
        (3, "auto", None, 0, 3, 0, 3), (20, "auto", None, 0, 10, 0, 10),
        (None, "cpu", 9, 0, 1, 0, 1), (None, "mps", None, 0, 1, 0, 1),
        (None, "cpu", None, 2, 4, 0, 4), (None, "auto", None, 2, 4, 2, 2),
        (None, "cuda", 8, 1, 1, 1, 1), (8, "cuda", None, 1, 8, 1, 1), (2, "auto", None, 4, 2, 4, 2),
        (6, "cuda:1", None, 2, 6, 1, 1),
    ],
)  # fmt: skip
def test_how_many_jobs_run_at_once(
    jobs: int | None, device: str, threads: int | None, gpus: int, most: int, cards: int,
    begins_with: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(machine, "cores", lambda: 4)
    monkeypatch.setattr(machine, "gpus", lambda: gpus)
    asked = config(Path("x"))
    asked.jobs, asked.device, asked.threads = jobs, device, threads
    room = room_for(asked, 10)
    assert (room.most, room.cards, room.now) == (most, cards, begins_with)


@pytest.mark.parametrize(
    ("took", "is_by_work", "at_once"),
    [
        (Footprint(2 * GB, 70 * GB, SMALL), True, 16),
        (Footprint(2 * GB, 11 * GB, SMALL), True, 5),
        (Footprint(2 * GB, 70 * GB, 15 * SMALL), True, 2),
        (Footprint(2 * GB, 70 * GB, 1000 * SMALL), True, 1),
        (Footprint(2 * GB, 70 * GB, 1000 * SMALL), False, 16),
        (Footprint(2 * GB, 70 * GB, None), True, 16),
        (Footprint(9 * GB, 1 * GB, SMALL), False, 1),
        (Footprint(0, 0, None), True, 16),
    ],
)
def test_memory_and_where_nobody_says_how_many_work_decide_after_the_first_step(
    took: Footprint, is_by_work: bool, at_once: int
) -> None:
    room = Room(16, 1, is_by_work)
    assert room.now == 1
    assert room.learn(took)
    assert room.now == at_once
    assert not room.learn(Footprint(1, 100 * GB, 1)), "the first job decides"
    assert room.now == at_once


def test_a_full_memory_leaves_fewer_jobs_until_each_has_its_card() -> None:
    room = Room(8, 2)
    room.learn(Footprint(GB, 70 * GB, None))
    assert room.now == 8
    assert room.shrink(8, running=5)
    assert room.now == 5
    assert room.shrink(5, running=4)
    assert room.now == 4
    assert room.shrink(8, running=4), "it failed when there were more"
    assert room.now == 4
    assert room.shrink(4, running=0)
    assert room.now == 2
    assert room.shrink(4, running=1), "it failed beside others"
    assert not room.shrink(2, running=1)
    unseen = Room(4)
    assert unseen.shrink(4, running=3), "a GPU without a device file, as under WSL"
    assert unseen.now == 3
    assert not unseen.shrink(1, running=0)


class Card:
    """A pool of jobs on one pretended GPU, on which ``fit`` find memory."""

    fit = 2
    most_seen = 0

    def __init__(self, size: int, threads: int) -> None:
        self.size = size
        self._begun: list[int] = []
        self._fresh: list[int] = []
        self.warmed = 0

    def __enter__(self) -> "Card":
        return self

    def __exit__(self, *_: object) -> None: ...

    def has_room(self) -> bool:
        return len(self._begun) < self.size

    def running(self) -> list[int]:
        return list(self._begun)

    def start(self, number: int, config: Config, command: str) -> None:
        self._begun.append(number)
        self._fresh.append(number)

    def warm(self, size: int) -> None:
        self.warmed = size

    def resize(self, size: int) -> None:
        self.size = size

    def messages(self) -> list[tuple[int, Message]]:
        fresh, self._fresh = self._fresh, []
        if fresh:
            return self._first_steps(fresh)
        return [self._end(self._begun[0], End("failed", "it is a test"))]

    def _first_steps(self, fresh: list[int]) -> list[tuple[int, Message]]:
        messages: list[tuple[int, Message]] = []
        for number in fresh:
            if len(self._begun) > self.fit:
                messages.append(self._end(number, End("failed", "full", is_crowded=True)))
            else:
                messages.append((number, Footprint(GB, 70 * GB, SMALL)))
        type(self).most_seen = max(self.most_seen, len(self._begun))
        return messages

    def _end(self, number: int, end: End) -> tuple[int, Message]:
        self._begun.remove(number)
        return number, end


class Noted(Grid):
    """A grid that notes how its jobs ended."""

    states: list[str]

    def ended(self, job: Job, state: str) -> None:
        self.states.append(job.label)


@pytest.mark.parametrize(("fit", "at_once"), [(2, 2), (1, 1), (4, 4)])
def test_a_job_without_memory_is_repeated_with_fewer_at_once_and_does_not_fail(
    fit: int, at_once: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    configs = [config(tmp_path, seed) for seed in range(6)]
    jobs = [Job([], {"seed": str(each.seed)}, each) for each in configs]
    plan, room = Noted(jobs, jobs), Room(4, 1)
    plan.states = []
    monkeypatch.setattr(Card, "fit", fit)
    monkeypatch.setattr(Card, "most_seen", 0)
    monkeypatch.setitem(launch.__globals__, "Pool", Card)
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "nowhere"))
    launch(plan, room, 6)
    assert sorted(plan.states) == sorted(job.label for job in jobs), "each has ended once"
    assert (Card.most_seen, room.now) == (at_once, at_once)
    out = capsys.readouterr().out
    said = "gpu     4 jobs at once on 1 GPU, 1.0 GB each, by time slicing: NVIDIA's MPS is not"
    assert said in out
    assert (f"again with {at_once} job" in out) == (at_once < 4)


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), True),
        (RuntimeError("shape '[3]' is invalid"), False), (MemoryError(), False),
    ],
)  # fmt: skip
def test_an_error_of_full_memory_is_known_also_as_the_cause_of_another(
    error: Exception, is_memory: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(config: Config, command: str, link: Any) -> None:
        try:
            raise error
        except Exception as cause:
            raise ValueError("what the user reads") from cause

    monkeypatch.setattr(worker, "_train", full)
    end = worker.train(config(tmp_path), "", None)  # type: ignore[arg-type]
    assert (end.state, end.is_crowded) == ("failed", is_memory)
    assert run_folder(config(tmp_path)).error() == "ValueError: what the user reads"


@pytest.mark.costly
@pytest.mark.skipif(machine.gpus() == 0, reason="needs a CUDA device")
def test_runs_that_share_a_card_have_the_weights_of_runs_trained_alone(tmp_path: Path) -> None:
    actual = []
    for name, room in (("alone", Room(1, 1)), ("together", Room(3, 1))):
        configs = [config(tmp_path / name, seed) for seed in range(3)]
        for each in configs:
            each.device = "cuda:0"
        jobs = [Job([], {"seed": str(each.seed)}, each) for each in configs]
        launch(Grid(jobs, jobs), room, 3)
        results = [run_folder(each).result() for each in configs]
        actual.append([None if result is None else result.weights_sha256 for result in results])
    assert None not in actual[0]
    assert actual[0] == actual[1]


def test_a_job_that_runs_on_no_gpu_says_so() -> None:
    on_cpu: Any = SimpleNamespace(recipe=SimpleNamespace(device=torch.device("cpu")))
    assert worker._footprint(on_cpu) == Footprint(0, 0, None)


ASKS_CUDA = """
import importlib, sys, torch
def asked(*_):
    raise SystemExit("CUDA is asked before the fork")
names = "is_available", "device_count", "_lazy_init", "init", "current_device", "mem_get_info"
for name in names:
    setattr(torch.cuda, name, asked)
for name in ("_cuda_init", "_cuda_getDeviceCount"):
    setattr(torch._C, name, asked)
from tinylab.sweeps.pool import IMPORTED
for name in IMPORTED:
    importlib.import_module(name)
"""


@pytest.mark.costly
def test_what_workers_are_forked_from_never_asks_cuda() -> None:
    """A process forked from one that has initialized CUDA cannot use it."""
    subprocess.run([sys.executable, "-c", ASKS_CUDA], check=True)


# ---------------------------------------------------------------- NVIDIA's MPS

CONTROL = """#!/bin/sh
echo "$1 $CUDA_MPS_PIPE_DIRECTORY ${CUDA_VISIBLE_DEVICES-none}" >> "$(dirname "$0")/calls"
[ "$1" = -d ] || cat >> "$(dirname "$0")/calls"
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A pretended control program first in PATH; the file of the calls to it."""
    program = tmp_path / "bin" / mps.CONTROL
    program.parent.mkdir()
    program.write_text(CONTROL)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    for name in (mps.PIPES, mps.LOGS):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path / "nowhere")
    return program.with_name("calls")


@pytest.mark.costly
def test_the_service_runs_in_a_folder_of_its_own_and_is_ended(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "PROBE", "")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with mps.served() as is_on:
        assert is_on
        folder = os.environ[mps.PIPES]
        assert os.environ[mps.LOGS] == folder
        assert Path(folder).is_dir()
        assert control.read_text() == f"-d {folder} none\n"
    assert control.read_text().splitlines()[1:] == [f" {folder} none", "quit"]
    assert mps.PIPES not in os.environ
    assert not Path(folder).exists()


@pytest.mark.costly
def test_a_service_that_does_not_work_is_ended_and_not_used(
    control: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "PROBE", "raise SystemExit(1)")
    with mps.served() as is_on:
        assert not is_on
        assert mps.PIPES not in os.environ
    assert control.read_text().splitlines()[-1] == "quit"


@pytest.mark.costly
def test_the_service_ends_with_a_process_that_is_killed(control: Path) -> None:
    code = "import time; from tinylab.system import mps; mps.PROBE = ''\nwith mps.served(): "
    held = subprocess.Popen([sys.executable, "-c", code + "print(flush=True); time.sleep(60)"],
                            stdout=subprocess.PIPE)  # fmt: skip
    assert held.stdout is not None
    held.stdout.readline()
    held.send_signal(signal.SIGKILL)
    held.wait()
    held.stdout.close()
    until = time.monotonic() + 20
    while "quit" not in control.read_text() and time.monotonic() < until:
        time.sleep(0.05)
    assert "quit" in control.read_text()


def test_without_the_program_or_where_the_user_names_a_folder_none_is_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mps, "DEFAULT_PIPES", tmp_path / "nowhere")
    monkeypatch.delenv(mps.PIPES, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with mps.served() as is_on:
        assert not is_on
    monkeypatch.setenv(mps.PIPES, str(tmp_path / "theirs"))
    with mps.served() as is_on:
        assert not is_on
