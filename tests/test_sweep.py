"""Sweeps through the command line."""

import json
from pathlib import Path

import pytest
from tinylab import cli, experiment

TINY = ["train.epochs=1", "train.batch_size=256"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results() -> list[dict]:
    return [json.loads(path.read_text()) for path in Path("outputs/runs").glob("*/result.json")]


def test_two_jobs_leave_two_runs_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "-m", "model=baseline,mlp", *TINY]) == 0
    assert {result["config"]["model"]["name"] for result in results()} == {"baseline", "mlp"}
    table = capsys.readouterr().out.split("\n\n")[-1].splitlines()
    assert table[0].split()[:2] == ["model", "state"]
    assert len(table) == 3
    best = max(results(), key=lambda result: result["val"]["accuracy"])
    assert table[1].split()[0] == best["config"]["model"]["name"], "sorted by validation"


def test_the_same_sweep_again_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "seed=range(2)", *TINY]
    assert cli.run(command) == 0
    capsys.readouterr()
    assert cli.run(command) == 0
    out = capsys.readouterr().out
    assert out.count("already finished") == 2
    assert "epoch" not in out.replace("train.epochs", "")


def test_a_sweep_shares_its_runs_with_single_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "seed=1", *TINY]) == 0
    capsys.readouterr()
    assert cli.run(["train", "-m", "seed=0,1", *TINY]) == 0
    assert capsys.readouterr().out.count("already finished") == 1
    assert len(results()) == 2


def test_one_failed_job_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "optim=sgd", "optim.lr=1e30,0.1", "train.grad_clip=null", *TINY]
    assert cli.run(command) == 1
    captured = capsys.readouterr()
    assert "1 of 2 jobs failed" in captured.err
    assert "not a finite number" in captured.out
    assert len(results()) == 1
    [failure] = Path("outputs/runs").glob("*/failure.json")
    assert "Traceback" in (failure.parent / "train.log").read_text()


def test_a_fault_of_ours_in_one_job_is_recorded_and_the_rest_runs(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = experiment.prepare

    def prepare_or_break(config):  # type: ignore[no-untyped-def]
        if config.seed == 1:
            raise KeyError("a bug")
        return prepare(config)

    monkeypatch.setattr(experiment, "prepare", prepare_or_break)
    assert cli.run(["train", "-m", "seed=0,1,2", *TINY]) == 1
    assert "1 of 3 jobs failed" in capsys.readouterr().err
    assert len(results()) == 2
    [log] = [p for p in Path("outputs/runs").glob("*/train.log") if "a bug" in p.read_text()]
    assert "Traceback" in log.read_text()


def test_without_validation_the_table_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "-m", "seed=0,1", "split.val=0", *TINY]) == 0
    assert "do not choose a setting by its test accuracy" in capsys.readouterr().out
