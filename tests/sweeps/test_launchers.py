"""Sweeps through Hydra's launchers for clusters, in the local mode of the real libraries."""

import json
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import yaml

from server_kit import Server

pytestmark = pytest.mark.costly


def results_of(cwd: Path) -> dict[int, dict]:
    """The results by their seeds."""
    results = [json.loads(path.read_text()) for path in cwd.glob("outputs/runs/*/result.json")]
    return {result["config"]["seed"]: result for result in results}


def test_a_requeued_slurm_job_goes_on_by_itself_and_a_stopped_one_stops_no_other(
    server: Server, tmp_path: Path
) -> None:
    """SIGUSR2 is what SLURM sends before the time limit; submitit then queues the job again.

    A job that the cluster stops, by SIGTERM, is no failed one.
    """
    pytest.importorskip("submitit")
    command = [
        "train", "-m", "threads=1", "hydra/launcher=submitit_local", "seed=0,1", "model=mlp",
        "train.epochs=60", "model.hidden=4", "train.batch_size=512",
        "train.checkpoint_seconds=0.05", "hydra.launcher.timeout_min=5",
    ]  # fmt: skip
    sweep = server.start(tmp_path, command)
    said = tmp_path / "screen.log"
    signal_jobs(sweep, tmp_path, {0: signal.SIGUSR2, 1: signal.SIGTERM})
    assert server.wait() == 1, said.read_text()
    out = said.read_text()
    [(seed, result)] = results_of(tmp_path).items()
    assert seed == 0
    assert result["resumed_at"]
    assert result["failures"] == [], "to be queued again is no failure"
    assert "LocalLauncher runs 2 jobs; tinylab list" in out
    assert "  finished  val accuracy " in out
    assert "1 of 2 jobs not finished (stopped, or not run)" in out
    assert "Traceback" not in out
    logs = {seed: (folder / "train.log").read_text() for seed, folder in begun(tmp_path).items()}
    assert "resuming at epoch" in logs[0]
    assert "resuming at epoch" not in logs[1]
    assert not list(tmp_path.glob("outputs/runs/*/failure.json"))
    for log in tmp_path.glob("outputs/sweeps/.launcher/.submitit/*/*.err"):
        assert "Traceback" not in log.read_text()
    assert not (tmp_path / ".submitit").exists(), "nothing outside the outputs"


def begun(cwd: Path) -> dict[int, Path]:
    """The folders of the runs that have a checkpoint, by their seeds."""
    folders = [file.parent for file in cwd.glob("outputs/runs/*/last.ckpt")]
    return {yaml.safe_load((each / "config.yaml").read_text())["seed"]: each for each in folders}


def signal_jobs(sweep: int, cwd: Path, signals: dict[int, int]) -> None:
    """Signal the job of each seed as soon as it has a checkpoint."""
    deadline = time.monotonic() + 120
    jobs: list[int] = []
    waiting = dict(signals)
    while waiting:
        assert time.monotonic() < deadline, (cwd / "screen.log").read_text()
        time.sleep(0.01)
        ready = begun(cwd).keys() & waiting.keys()
        if ready and not jobs:
            jobs = [job for each in sorted(children(sweep)) for job in jobs_below(each)]
        for seed in ready:
            os.kill(jobs[seed], waiting.pop(seed))


def children(pid: int) -> list[int]:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def jobs_below(pid: int) -> list[int]:
    """The training processes that ``pid`` has started, at any depth, or itself if it is one."""
    below = [result for child in children(pid) for result in jobs_below(child)]
    is_job = b"submitit.core._submit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid] if is_job and not below else below


def test_jobs_run_on_a_local_ray(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the extra: ray")
    command = ["train", "-m", "threads=1", "hydra/launcher=ray", "seed=0,1", "train.epochs=1"]
    assert server.run(tmp_path, command) == 0, (tmp_path / "screen.log").read_text()
    results = results_of(tmp_path)
    assert {seed: each["status"] for seed, each in results.items()} == dict.fromkeys(
        (0, 1), "finished"
    )
