"""``sweep.keep``: the checkpoints of the best settings stay, and all that a resume needs."""

import itertools
import json
from pathlib import Path
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_kit import AXES, drive, finish, make_plan
from tinylab import cli
from tinylab.sweeps import leaderboard
from tinylab.sweeps.search import Search
from tinylab.system import files

pytestmark = pytest.mark.costly

SEEDS = ({"seed": "0"}, {"seed": "1"})


@pytest.fixture
def _without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "_flush", lambda path: None)


def plan_of(outputs: Path, keep: int | None = 2) -> Search:
    return make_plan(
        outputs, axes=AXES[:1], repeats=SEEDS, trials=9, keep=keep, prune="median",
        search="random", retry_failed=False,
    )  # fmt: skip


def checkpoints(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.ckpt"))


@pytest.mark.usefixtures("_without_flushing")
def test_the_best_settings_keep_their_checkpoints(tmp_path: Path) -> None:
    plan = finish(plan_of(tmp_path))
    ranked = leaderboard.rows_of_search(plan.trials)
    best = [row["optim.lr"] for row in ranked[:2]]
    for trial in plan.trials:
        for repeat in trial.repeats:
            result = checkpoints(repeat.job.folder)
            if trial.varied["optim.lr"] in best:
                assert result == ["best.ckpt", "last.ckpt"]
            elif trial.state in ("finished", "pruned"):
                assert result == []
            elif repeat.state == "failed":
                assert result == ["last.ckpt"], "it may be tried again"
    assert {trial.state for trial in plan.trials} == {"finished", "pruned", "failed"}


@pytest.mark.usefixtures("_without_flushing")
def test_without_a_number_all_checkpoints_stay(tmp_path: Path) -> None:
    plan = finish(plan_of(tmp_path, keep=None))
    begun = [job for job in plan.jobs if job.folder.exists()]
    assert all(checkpoints(job.folder) for job in begun)


@pytest.mark.usefixtures("_without_flushing")
@given(kills=st.lists(st.integers(0, 70), max_size=3), jobs=st.integers(1, 3))
@settings(max_examples=10)
def test_what_a_resume_needs_is_never_deleted(
    kills: list[int], jobs: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outputs = tmp_path_factory.mktemp("kept")
    for kill in [*kills, 10_000]:
        plan = plan_of(outputs)
        for _ in itertools.islice(drive(plan, jobs), kill):
            for repeat in (each for trial in plan.trials for each in trial.repeats):
                is_begun = (repeat.job.folder / "metrics.jsonl").exists()
                if is_begun and repeat.state == "running":
                    assert "last.ckpt" in checkpoints(repeat.job.folder)
    peace = outputs.parent / f"{outputs.name}-peace"
    if jobs == 1:
        whole = [t.state for t in finish(plan_of(peace)).trials]
        assert [trial.state for trial in plan.trials] == whole
        assert [checkpoints(job.folder) for job in plan.jobs] == [
            checkpoints(peace / "runs" / job.folder.name) for job in plan.jobs
        ]


@pytest.mark.usefixtures("_without_flushing")
def test_a_run_that_is_not_presented_yet_keeps_its_weights(tmp_path: Path) -> None:
    plan = finish(plan_of(tmp_path, keep=None))
    [late, other, *_] = [t.repeats[0].job for t in plan.trials if t.state == "finished"]
    (late.folder / "confusion.png").unlink()
    for job in (late, other):
        job.files.delete_checkpoints()
    assert checkpoints(late.folder)
    assert not checkpoints(other.folder)


def test_a_grid_keeps_its_best_setting_which_predict_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "train", "-m", "model=mlp", "model.hidden=4", "optim.lr=0.0001,0.1", "seed=0,1", "name=x",
        "train.epochs=1", "train.batch_size=512", "jobs=1", "threads=1",
    ]  # fmt: skip
    assert cli.run(command) == 0
    runs = {
        path: json.loads(path.read_text()) for path in Path().glob("outputs/runs/*/result.json")
    }
    assert all(checkpoints(path.parent) for path in runs)
    assert cli.run([*command, "sweep.keep=1"]) == 0, "it need not be known before"
    assert "4 already finished" in capsys.readouterr().out
    by_rate: dict[float, list[float]] = {}
    for result in runs.values():
        by_rate.setdefault(result["config"]["optim"]["lr"], []).append(result["val"]["accuracy"])
    best = max(by_rate, key=lambda rate: fmean(by_rate[rate]))
    for path, result in runs.items():
        assert bool(checkpoints(path.parent)) == (result["config"]["optim"]["lr"] == best)
    assert cli.run(["evaluate", "outputs/sweeps/x"]) == 0, capsys.readouterr().err


def test_the_best_are_not_known_without_validation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "-m", "seed=0,1", "sweep.keep=1", "split.val=0"]) == 1
    assert "sweep.keep=1 with split.val=0" in capsys.readouterr().err
