"""Kill the real command at random moments, repeat it, compare bits with an uninterrupted run.

The short form runs with the other tests. The long form, 200 kills and 100 with compiled kernels, is
    TINYLAB_KILLS=200 pytest tests/store/test_faults.py -k killed_again
"""

import contextlib
import csv
import functools
import hashlib
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from server_kit import TINYLAB, Server
from tensorboard_kit import read_scalars
from tinylab import cli

pytestmark = pytest.mark.costly

Undisturbed = Callable[[str], tuple[dict[str, Any], float]]
KILLS = int(os.environ.get("TINYLAB_KILLS", "6"))
TIMINGS = ("seconds", "images_per_second", "time")
# Checkpoints follow one another, so that many kills fall into the writing of one.
OFTEN = ["train.checkpoint_seconds=0.005", "threads=1"]
CONFIGS = {
    "dropout": ["train.epochs=4"],
    "everything": [
        "model=resnet", "model.width=4", "model.stages=2", "optim=sgd", "optim.lr=0.05",
        "augment=scenes", "train.ema=0.9", "train.epochs=2", "train.batch_size=64",
        "train.grad_clip=1", "train.label_smoothing=0.1",
    ],
}  # fmt: skip


def command(name: str) -> list[str]:
    return ["train", *CONFIGS[name], *OFTEN]


def outcome(folder: Path) -> dict[str, Any]:
    """Everything that must be equal between two runs."""
    result = json.loads((folder / "result.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    with np.load(folder / "predictions.npz") as arrays:
        predictions = {
            key: hashlib.sha256(arrays[key].tobytes()).hexdigest() for key in arrays.files
        }
    keys = ("weights_sha256", "split_sha256", "train", "val", "test", "confusion", "best_epoch")
    metrics = [{k: v for k, v in row.items() if k not in TIMINGS} for row in rows]
    return {**{key: result[key] for key in keys}, "metrics": metrics, "predictions": predictions}


def only_run(cwd: Path) -> Path:
    [result] = (cwd / "outputs" / "runs").glob("*/result.json")
    return result.parent


@pytest.fixture(scope="module")
def undisturbed(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """What gives for a config its outcome without kills, and the seconds of the whole command."""
    return functools.cache(lambda name: uninterrupted(server, name, tmp_path_factory.mktemp(name)))


def uninterrupted(server: Server, name: str, cwd: Path) -> tuple[dict[str, Any], float]:
    started = time.monotonic()
    assert server.run(cwd, command(name)) == 0
    seconds = time.monotonic() - started
    return outcome(only_run(cwd)), seconds


def tensorboard_steps(folder: Path) -> list[int]:
    return [step for step, _, _ in read_scalars(folder)["loss/train"]]


@pytest.mark.parametrize("name", CONFIGS)
def test_a_run_killed_again_and_again_ends_with_the_same_bits(
    name: str, server: Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    kill_again_and_again(name, server, *undisturbed(name), tmp_path)


@pytest.mark.skipif(KILLS < 100, reason="compiled kernels: TINYLAB_KILLS=200 kills runs with them")
def test_a_run_by_compiled_kernels_killed_again_and_again_ends_with_the_same_bits(
    tmp_path: Path,
) -> None:
    with closing(Server((*TINYLAB, "numba", "always_one_pass"))) as server:
        (tmp_path / "first").mkdir()
        uninterrupted(server, "dropout", tmp_path / "first")  # compiles
        outcome_and_seconds = uninterrupted(server, "dropout", tmp_path)
        result, *_ = (tmp_path / "outputs" / "runs").glob("*/result.json")
        assert "numba" in json.loads(result.read_text())["environment"]
        kill_again_and_again("dropout", server, *outcome_and_seconds, tmp_path)


def kill_again_and_again(
    name: str, server: Server, expected: dict[str, Any], seconds: float, folder: Path
) -> None:
    moments = random.Random(f"{name} {KILLS}")
    survived, rounds = 0, 0
    while survived < KILLS // 2:
        cwd = folder / str(rounds)
        cwd.mkdir()
        rounds += 1
        for _ in range(4):
            moment = moments.uniform(0, seconds)
            survived += server.stop_after(cwd, command(name), moment, signal.SIGKILL) == -9
        assert server.run(cwd, command(name)) == 0, (cwd / "screen.log").read_text()
        assert outcome(only_run(cwd)) == expected
        assert tensorboard_steps(only_run(cwd)) == [row["step"] for row in expected["metrics"]]
        left = [path.name for path in only_run(cwd).iterdir() if path.name.startswith(".")]
        assert not left, "what a killed writer left is cleared away"


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGUSR1, 138)]
)
def test_a_signal_saves_and_says_how_to_go_on(
    signum: int, code: int, server: Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    expected, _ = undisturbed("dropout")
    pid = server.start(tmp_path, command("dropout"))
    wait_for_training(tmp_path)
    os.kill(pid, signum)
    assert server.wait() == code
    screen = (tmp_path / "screen.log").read_text()
    assert "run the same command to resume" in screen
    assert "Traceback" not in screen
    assert server.run(tmp_path, command("dropout")) == 0
    assert "resuming at epoch" in (tmp_path / "screen.log").read_text()
    assert outcome(only_run(tmp_path)) == expected
    assert json.loads((only_run(tmp_path) / "result.json").read_text())["resumed_at"]


def wait_for_training(cwd: Path) -> None:
    """Until the first checkpoint is there."""
    for _ in range(3000):
        if list(cwd.glob("outputs/runs/*/last.ckpt")):
            return
        time.sleep(0.01)
    raise AssertionError((cwd / "screen.log").read_text())


def test_a_sweep_killed_again_and_again_has_the_leaderboard_of_one_in_peace(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kills = max(2, KILLS // 3)
    sweep = ["train", "-m", f"seed=range({kills + 1})", "optim.lr=0.01,0.001", "name=s",
             "model=mlp", "threads=1", "train.epochs=2",
             "train.checkpoint_seconds=0.02"]  # fmt: skip
    peace, storm = tmp_path / "peace", tmp_path / "storm"
    peace.mkdir()
    storm.mkdir()
    moments, killed = random.Random(5), 0
    while killed < kills:
        before = newest_checkpoint(storm)
        pid = server.start(storm, sweep)
        while newest_checkpoint(storm) == before and Path(f"/proc/{pid}").exists():
            time.sleep(0.01)  # starting takes longest
        time.sleep(moments.uniform(0.0, 0.3))
        with contextlib.suppress(ProcessLookupError):  # it has ended
            os.killpg(pid, signal.SIGKILL)
        if server.wait() != -signal.SIGKILL:
            break
        killed += 1
    assert killed >= kills / 2
    for folder in (storm, peace):
        monkeypatch.chdir(folder)
        assert cli.run(sweep) == 0
    assert leaderboard(storm) == leaderboard(peace)
    assert len(leaderboard(storm)) == 2 * (kills + 1)


def newest_checkpoint(cwd: Path) -> int:
    """When the last one was written; 0 without one."""
    changed = 0
    for file in cwd.glob("outputs/runs/*/last.ckpt"):
        with contextlib.suppress(OSError):  # it is being replaced
            changed = max(changed, file.stat().st_mtime_ns)
    return changed


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
def test_a_sweep_whose_parent_alone_is_stopped_leaves_no_orphan(
    signum: int, server: Server, tmp_path: Path
) -> None:
    """SIGTERM saves and says how to go on; after SIGKILL the workers notice, and save."""
    sweep = ["train", "-m", "seed=0,1", "train.epochs=2000", "jobs=2", "name=s"]
    pid = server.start(tmp_path, sweep)
    for _ in range(3000):
        if len(list(tmp_path.glob("outputs/runs/*/last.ckpt"))) == 2:
            break
        time.sleep(0.01)
    workers = below(pid)
    assert len(workers) >= 3, "those two and the process that starts them"
    os.kill(pid, signum)
    assert server.wait() == (143 if signum == signal.SIGTERM else -9)
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{worker}").exists() for worker in workers):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    screen = (tmp_path / "screen.log").read_text()
    assert ("the same command resumes" in screen) == (signum == signal.SIGTERM)
    assert "Traceback" not in screen
    for log in tmp_path.glob("outputs/runs/*/train.log"):
        assert "stopped, checkpoint saved" in log.read_text()


def below(pid: int) -> list[int]:
    """The processes that ``pid`` has started, and these in turn, and that still run (Linux)."""
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    children = map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())
    return [each for child in children for each in (child, *below(child))]


def leaderboard(cwd: Path) -> list[dict[str, str]]:
    with (cwd / "outputs" / "sweeps" / "s" / "leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    return [{key: row[key] for key in row if key != "train_seconds"} for row in rows]


def test_two_writers_of_one_run_take_turns(
    server: Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    assert server.run_at_once(tmp_path, command("dropout"), 2) == [0, 0]
    screen = (tmp_path / "screen.log").read_text()
    assert "is being trained by another process" in screen
    assert "already finished" in screen
    assert outcome(only_run(tmp_path)) == undisturbed("dropout")[0]


def test_a_full_disk_ends_the_run_in_words_and_keeps_the_last_good_state(
    server: Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    # A file that may not grow past 64 KiB is a disk that is full for checkpoints.
    assert server.run(tmp_path, command("dropout"), max_file_bytes=65536) == 1
    screen = (tmp_path / "screen.log").read_text()
    assert "cannot be written" in screen
    assert "Traceback" not in screen
    assert server.run(tmp_path, command("dropout")) == 0
    assert outcome(only_run(tmp_path)) == undisturbed("dropout")[0]


def test_damaged_and_lost_files_are_made_again(
    server: Server, undisturbed: Undisturbed, tmp_path: Path
) -> None:
    pid = server.start(tmp_path, command("dropout"))
    wait_for_training(tmp_path)
    time.sleep(0.3)
    os.kill(pid, signal.SIGTERM)
    server.wait()
    [checkpoint] = tmp_path.glob("outputs/runs/*/last.ckpt")
    data = bytearray(checkpoint.read_bytes())
    data[len(data) // 2] ^= 0xFF
    checkpoint.write_bytes(data)
    for derived in checkpoint.parent.rglob("events.out.tfevents.*"):
        derived.unlink()
    (checkpoint.parent / "metrics.jsonl").write_text("{rubbish")
    assert server.run(tmp_path, command("dropout")) == 0
    assert "is not usable" in (tmp_path / "screen.log").read_text()
    assert outcome(only_run(tmp_path)) == undisturbed("dropout")[0]


def test_data_that_changed_under_a_half_finished_run_begins_another(
    server: Server, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    import cv2

    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(40):
            pixels = rng.integers(0, 256, (8, 8), dtype=np.uint8)
            cv2.imwrite(str(tmp_path / "images" / name / f"{number}.png"), pixels)
    train = ["train", "dataset=folder", "dataset.root=images", "dataset.image_size=8",
             "train.batch_size=8", "train.epochs=60", *OFTEN]  # fmt: skip
    pid = server.start(tmp_path, train)
    wait_for_training(tmp_path)
    os.kill(pid, signal.SIGTERM)
    assert server.wait() == 143
    (tmp_path / "images" / "a" / "3.png").unlink()
    [half] = tmp_path.glob("outputs/runs/folder-*")
    kept = (half / "last.ckpt").read_bytes()
    assert server.run(tmp_path, train) == 0
    assert "resuming" not in (tmp_path / "screen.log").read_text()
    assert (half / "last.ckpt").read_bytes() == kept
