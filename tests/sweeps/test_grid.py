"""Sweeps through the command line."""

import csv
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf

from run_folders import failed, finished
from tinylab import cli
from tinylab.config import compose
from tinylab.config.folders import conf_folder
from tinylab.errors import UserError
from tinylab.store.folder import RunFolder
from tinylab.sweeps.conclusion import refuse_unfinished
from tinylab.sweeps.job import Composer

pytestmark = pytest.mark.costly

TINY = ["train.epochs=1", "train.batch_size=256", "jobs=1"]


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def results() -> list[dict]:
    return [json.loads(path.read_text()) for path in Path("outputs/runs").glob("*/result.json")]


def test_two_jobs_leave_two_runs_and_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "model=baseline,mlp", *TINY]
    assert cli.run(command) == 0
    assert {result["command"] for result in results()} == {shlex.join(["tinylab", *command])}
    assert {result["config"]["model"]["name"] for result in results()} == {"baseline", "mlp"}
    table = capsys.readouterr().out.split("\n\n")[1].splitlines()
    assert table[0].split()[:2] == ["model", "state"]
    assert len(table) == 4
    assert table[3].startswith("* not for selection")
    best = max(results(), key=lambda result: result["val"]["accuracy"])
    letter, model, *_ = table[1].split()
    assert (letter, model) == ("A", best["config"]["model"]["name"]), "sorted by validation"
    assert table[2].split()[0] == "B", "the verdict below speaks of A and B"


def test_the_same_sweep_again_runs_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", *TINY, "-m", "seed=range(2)"]  # the flag may stand anywhere
    assert cli.run(command) == 0
    capsys.readouterr()
    assert cli.run(command) == 0
    out = capsys.readouterr().out
    assert "2 already finished" in out
    assert "epoch" not in out.replace("train.epochs", "")


def test_a_sweep_shares_its_runs_with_single_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "seed=1", *TINY]) == 0
    capsys.readouterr()
    assert cli.run(["train", "-m", "seed=0,1", *TINY]) == 0
    assert "1 already finished" in capsys.readouterr().out
    assert len(results()) == 2


def test_what_other_code_has_found_is_run_again_and_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", "seed=1", *TINY]) == 0
    [path] = Path("outputs/runs").glob("*/result.json")
    result = json.loads(path.read_text())
    result["environment"]["code_sha256"] = "older"
    path.write_text(json.dumps(result))
    capsys.readouterr()
    assert cli.run(["train", "-m", "seed=0,1", *TINY]) == 0
    out = capsys.readouterr().out
    assert "tinylab's code has changed since; set aside and re-run: 1 of 2" in out
    assert "0 already finished" in out


def test_a_used_name_is_extended_by_more_jobs_and_refused_to_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    def sweep(*words: str) -> tuple[int, str]:
        code = cli.run(["train", "-m", "name=x", "model=mlp", *TINY, *words])
        captured = capsys.readouterr()
        return code, captured.err + captured.out

    def seeds() -> list[str]:
        with Path("outputs/sweeps/x/leaderboard.csv").open(newline="") as file:
            return sorted(row.get("seed", "-") for row in csv.DictReader(file))

    assert sweep("seed=0,1")[0] == 0
    for other in (["seed=1,5"], ["seed=0,1", "optim.lr=0.01"]):
        code, said = sweep(*other)
        assert code == 1
        assert "name=x: outputs/sweeps/x holds a sweep with" in said
        assert "another name" in said
        assert "fresh=true" in said
        assert seeds() == ["0", "1"]
        assert len(results()) == 2, "refused before a job starts"
    search = ["sweep.search=random", "sweep.trials=2", "optim.lr=0.01,0.02"]
    assert "holds another sweep" in sweep(*search)[1]
    code, said = sweep("seed=1,0,2")
    assert code == 0
    assert "2 already finished" in said
    assert seeds() == ["0", "1", "2"]
    assert sweep("seed=5", "optim.lr=0.01,0.02", "fresh=true")[0] == 0
    assert seeds() == ["-", "-"], "it does not vary"
    assert sweep("seed=0,1")[0] == 1


def test_a_grid_is_refused_the_name_of_a_search(capsys: pytest.CaptureFixture[str]) -> None:
    search = ["sweep.search=random", "sweep.trials=1", "optim.lr=0.01,0.02"]
    assert cli.run(["train", "-m", "name=x", "model=mlp", *TINY, *search]) == 0
    state = Path("outputs/sweeps/x/sweep.json").read_bytes()
    assert cli.run(["train", "-m", "name=x", "model=mlp", *TINY, "optim.lr=0.01,0.02"]) == 1
    assert "outputs/sweeps/x holds a search" in capsys.readouterr().err
    assert Path("outputs/sweeps/x/sweep.json").read_bytes() == state


def test_what_shows_a_sweep_does_not_cost_it_and_is_made_by_the_same_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise ValueError("no ink")

    command = ["train", "-m", "model=mlp", "seed=0,1", "name=my sweep", *TINY]
    with monkeypatch.context() as patch:
        patch.setattr("tinylab.sweeps.board.write", broken)
        assert cli.run(command) == 0
    assert "cannot make the curves and the report (ValueError: no ink)" in capsys.readouterr().out
    folder = Path("outputs/sweeps/my sweep")
    assert (folder / "leaderboard.csv").exists()
    assert not (folder / "report.html").exists()
    assert cli.run(command) == 0
    assert (folder / "report.html").exists()
    said = capsys.readouterr().out
    assert "tensorboard --logdir 'outputs/sweeps/my sweep/tensorboard'" in said


def test_one_failed_job_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["train", "-m", "optim=sgd", "optim.lr=1e30,0.1", "train.grad_clip=null", *TINY]
    assert cli.run(command) == 1
    captured = capsys.readouterr()
    assert "1 of 2 jobs failed: the loss or a weight became non-finite" in captured.err
    assert "lower optim.lr" in captured.err
    assert "became non-finite" in captured.out
    assert len(results()) == 1
    [failure] = Path("outputs/runs").glob("*/failure.json")
    assert "became non-finite" in (failure.parent / "train.log").read_text()


@pytest.mark.parametrize("others", ["model=tiny: gives 2x11\n  expected 2x10", "killed"])
def test_the_error_of_all_failed_jobs_is_shown_in_full_if_it_is_the_same(
    others: str, tmp_path: Path
) -> None:
    error = "model=tiny: gives 2x11\n  expected 2x10"
    folders = [
        failed(tmp_path, error),
        failed(tmp_path, others, seed=1),
        finished(tmp_path, seed=2),
    ]
    jobs = [SimpleNamespace(files=RunFolder(folder)) for folder in folders]
    table = [{"state": "failed"}, {"state": "failed"}, {"state": "finished"}]
    with pytest.raises(UserError) as raised:
        refuse_unfinished(table, jobs)  # type: ignore[arg-type]
    same = f"2 of 3 jobs failed: {error}\n"
    different = f"2 of 3 jobs failed; see train.log in their folders in {tmp_path / 'runs'}\n"
    assert str(raised.value).startswith(same if others == error else different)


def test_a_sweep_that_cannot_write_its_runs_ends_in_two_lines(
    capfd: pytest.CaptureFixture[str],
) -> None:
    Path("outputs").mkdir()
    Path("outputs/runs").write_text("no folder: nobody can write into it")
    assert cli.run(["train", "-m", "seed=range(5)", *TINY]) == 1
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err + captured.out
    [first, second] = captured.err.splitlines()
    assert "cannot be written" in first
    assert "outputs=FOLDER" in second
    assert len(captured.out.splitlines()) == 1, "no job is tried after the first"


def test_without_validation_the_table_warns(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "-m", "model.hidden=8,16", "split.val=0", *TINY]) == 0
    assert "do not select a setting by test accuracy" in capsys.readouterr().out


def test_a_sweep_leaves_its_state_and_a_leaderboard(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "-m", "model.hidden=8,32", "name=widths", *TINY]) == 0
    out = capsys.readouterr().out
    assert "Best of 2 settings by validation: model.hidden=" in out
    assert "On the test set, " in out, "a single run per setting has a verdict, too"
    assert "One run per setting" in out
    assert "test acc *" in out
    assert "* not for selection" in out
    state = json.loads(Path("outputs/sweeps/widths/sweep.json").read_text())
    assert [job["overrides"] for job in state["jobs"]] == [
        {"model.hidden": "8"},
        {"model.hidden": "32"},
    ]
    assert {job["state"] for job in state["jobs"]} == {"finished"}
    with Path("outputs/sweeps/widths/leaderboard.csv").open() as file:
        rows = list(csv.DictReader(file))
    accuracies = [float(row["val_accuracy"]) for row in rows]
    assert accuracies == sorted(accuracies, reverse=True)
    assert {row["run"] for row in rows} == {job["run_id"] for job in state["jobs"]}


def test_repeated_seeds_end_in_intervals_verdicts_and_a_report(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["train", "-m", "model.filters=2,8", "seed=0,1", "name=s", *TINY]) == 0
    out = capsys.readouterr().out
    assert "2 settings tried in 4 runs" in out
    assert "Verdicts on test accuracy" in out
    page = Path("outputs/sweeps/s/report.html").read_text()
    assert "model.filters=8" in page
    assert "tinylab train -m model.filters=2,8" in page


def test_failed_jobs_are_left_alone_when_that_is_asked_for(
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["train", "-m", "optim=sgd", "optim.lr=1e30", *TINY]
    assert cli.run(command) == 1
    capsys.readouterr()
    assert cli.run([*command, "sweep.retry_failed=false"]) == 1
    assert "1 of 1" not in capsys.readouterr().out
    assert cli.run(command) == 1
    assert "1 of 1" in capsys.readouterr().out
    [failure] = Path("outputs/runs").glob("*/failure.json")
    assert len(json.loads(failure.read_text())["failures"]) == 2


OVERRIDES = st.fixed_dictionaries(
    {},
    optional={
        "dataset": st.sampled_from(["mnist", "digits"]),
        "model.hidden": st.integers(1, 64),
        "optim": st.sampled_from(["adam", "sgd"]),
        "optim.lr": st.sampled_from(["1e-3", "0.1", "3"]),
        "split.test": st.sampled_from(["null", "0.2"]),
        "name": st.sampled_from(["plain", "'with space'"]),
        "train.patience": st.sampled_from(["null", "3"]),
        "experiment": st.just("scene15_baseline"),
        "augment.flip": st.sampled_from(["true", "false"]),
    },
)


@given(OVERRIDES)
@settings(max_examples=12, deadline=None)
def test_the_lean_composition_equals_hydras_own(overrides: dict[str, object]) -> None:
    arguments = [f"{key}={value}" for key, value in overrides.items()]
    composed: list[DictConfig] = []
    compose.run_hydra(composed.append, arguments)
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        hydra = GlobalHydra.instance().hydra
        assert hydra is not None
        master = hydra.compose_config("config", [], run_mode=RunMode.MULTIRUN)
        lean = Composer(hydra.config_loader, master).compose(arguments)
    assert OmegaConf.to_container(lean) == OmegaConf.to_container(composed[0])
