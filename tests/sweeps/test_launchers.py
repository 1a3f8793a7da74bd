"""Sweeps through Hydra's launchers for clusters, in the local mode of the real libraries."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.costly


def start(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tinylab", "train", "-m", "threads=1", *arguments]
    return subprocess.Popen(
        command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def result_of(cwd: Path, seed: int) -> dict:
    results = [json.loads(path.read_text()) for path in cwd.glob("outputs/runs/*/result.json")]
    [result] = [result for result in results if result["config"]["seed"] == seed]
    return result


def test_slurm_jobs_finish_and_a_requeued_one_goes_on_by_itself(tmp_path: Path) -> None:
    """SIGUSR2 is what SLURM sends before the time limit; submitit then queues the job again."""
    pytest.importorskip("submitit")
    sweep = start(
        tmp_path, "hydra/launcher=submitit_local", "seed=0", "train.epochs=60", "model.hidden=8",
        "train.checkpoint_seconds=0.05", "hydra.launcher.timeout_min=5",
    )  # fmt: skip
    for _ in range(6000):
        if list(tmp_path.glob("outputs/runs/*/last.ckpt")):
            break
        time.sleep(0.01)
    [job] = workers_below(sweep.pid)
    os.kill(job, signal.SIGUSR2)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 0, out
    assert result_of(tmp_path, 0)["resumed_at"]
    assert result_of(tmp_path, 0)["failures"] == [], "to be queued again is no failure"
    assert "LocalLauncher runs 1 job; tinylab list shows their progress" in out
    assert "  finished  val accuracy " in out
    [log] = tmp_path.glob("outputs/runs/*/train.log")
    assert "resuming at epoch" in log.read_text()
    assert not (tmp_path / ".submitit").exists(), "nothing outside the outputs"


def test_a_job_that_the_cluster_stops_is_no_failed_one_and_stops_no_other(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    grid = ["hydra/launcher=submitit_local", "seed=0", "train.epochs=300", "model.hidden=8",
            "train.checkpoint_seconds=0.05", "hydra.launcher.timeout_min=5"]  # fmt: skip
    sweep = start(tmp_path, *grid)
    for _ in range(6000):
        if list(tmp_path.glob("outputs/runs/*/last.ckpt")):
            break
        time.sleep(0.01)
    [job] = workers_below(sweep.pid)
    os.kill(job, signal.SIGTERM)
    out, _ = sweep.communicate(timeout=120)
    assert sweep.returncode == 1
    assert "Traceback" not in out
    assert "1 of 1 job not finished (stopped, or not run)" in out
    assert not list(tmp_path.glob("outputs/runs/*/failure.json"))
    [log] = tmp_path.glob("outputs/sweeps/.launcher/.submitit/*/*.err")
    assert "Traceback" not in log.read_text()


def workers_below(pid: int) -> list[int]:
    """The training processes that ``pid`` has started, at any depth (Linux)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    below = [result for child in children for result in workers_below(int(child))]
    is_job = b"submitit.core._submit" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return [pid] if is_job and not below else below


def test_jobs_run_on_a_local_ray(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_ray_launcher", reason="needs the extra: ray")
    sweep = start(tmp_path, "hydra/launcher=ray", "seed=0,1", "train.epochs=1")
    out, _ = sweep.communicate(timeout=180)
    assert sweep.returncode == 0, out
    for seed in (0, 1):
        assert result_of(tmp_path, seed)["status"] == "finished"
