"""Metrics of a user's own file, from the command line to the report."""

import csv
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from own_metrics_kit import table_restored
from tensorboard_kit import read_scalars
from tinylab import cli
from tinylab.store.folder import RunFolder
from workplace_kit import begun, result

SOURCE = """import numpy as np
import tinylab


@tinylab.metric(better="higher")
def top2(labels, probabilities):
    best = np.argsort(-probabilities, axis=1)[:, :2]
    return (best == labels[:, None]).any(axis=1).mean()


@tinylab.metric(better="lower")
def again(labels, probabilities):
    return -np.log(probabilities[np.arange(len(labels)), labels]).mean()


@tinylab.metric(better="lower")
def tested(labels, probabilities):
    return {161: np.nan, 179: 0.5}.get(len(labels), 1.0)
"""
pytestmark = pytest.mark.costly
TRAIN = ["train", "code=marks.py", "model=mlp", "model.hidden=8", "train.epochs=3", "threads=1",
         "optim.lr=0.01"]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_table() -> Iterator[None]:
    with table_restored():
        yield


@pytest.fixture(scope="module")
def workplace(own_table: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the file, and a finished run with it."""
    return begun(tmp_path_factory, {"marks.py": SOURCE}, TRAIN)


@pytest.fixture
def student(workplace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, which names the copied file."""
    copied = tmp_path / "student"
    shutil.copytree(workplace, copied)
    monkeypatch.chdir(copied)
    return copied


def run_of(student: Path, outputs: str = "outputs") -> Path:
    [result] = [each for each in student.glob(f"{outputs}/runs/digits-*") if "." not in each.name]
    return result


def edit(student: Path, old: str, new: str) -> None:
    file = student / "marks.py"
    file.write_text(file.read_text().replace(old, new))


def test_the_values_are_those_of_the_saved_probabilities(student: Path) -> None:
    files = RunFolder(run_of(student))
    actual, saved = result(files.path), files.predictions(with_probabilities=True)
    assert saved is not None
    assert saved.probabilities is not None
    best = np.argsort(-saved.probabilities, axis=1)[:, :2]
    assert actual.metric("test_top2") == (best == saved.label[:, None]).any(axis=1).mean()
    assert actual.metric("test_again") == pytest.approx(actual.metric("test_nll"), rel=1e-9)
    assert (actual.metric("val_tested"), actual.metric("test_tested")) == (None, 0.5)
    rows = files.history()
    assert [row["val_again"] for row in rows] == pytest.approx([row["val_loss"] for row in rows])
    assert rows[-1]["val_tested"] is None
    assert actual.own_metrics is not None
    assert {name: each["better"] for name, each in actual.own_metrics.items()} == {
        "again": "lower", "tested": "lower", "top2": "higher"
    }  # fmt: skip
    assert (files.code_folder / "marks.py").read_text() == SOURCE


def test_a_value_that_is_none_is_warned_of_and_costs_nothing(student: Path) -> None:
    log = (run_of(student) / "train.log").read_text()
    assert log.count("warning: metric tested has no value: nan, not a finite number") == 1
    assert ", tested 0.5000, top2 0." in log


def test_own_metrics_do_not_change_the_training(student: Path) -> None:
    assert cli.run([*TRAIN[:1], *TRAIN[2:], "outputs=without"]) == 0
    with_them, without = result(run_of(student)), result(run_of(student, "without"))
    assert run_of(student).name == run_of(student, "without").name
    assert with_them.weights_sha256 == without.weights_sha256
    assert with_them.environment.code_sha256 == without.environment.code_sha256
    assert "own_metrics" not in json.loads((run_of(student, "without") / "result.json").read_text())


def test_an_edit_retrains_only_what_the_metric_chooses(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [*TRAIN, "train.monitor=again", "outputs=chosen"]
    assert cli.run(chosen) == 0
    assert cli.run(chosen) == 0
    assert "already finished" in capsys.readouterr().out
    edit(student, "labels]).mean()", "labels]).max()")
    assert cli.run(TRAIN) == 0
    output = capsys.readouterr().out
    assert "already finished" in output
    assert "metric again: edited since; its values come from the earlier code" in output
    assert cli.run(chosen) == 0
    assert "metric again has changed since; old folder kept" in capsys.readouterr().out


def test_a_grid_says_once_which_metric_was_edited(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["train", "-m", *TRAIN[1:], "seed=0,1"]
    assert cli.run(sweep) == 0
    assert "edited since" not in capsys.readouterr().out
    edit(student, "labels]).mean()", "labels]).max()")
    assert cli.run(sweep) == 0
    assert capsys.readouterr().out.count("metric again: edited since; its values come from") == 1


def test_an_evaluation_has_the_own_metrics_too(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = run_of(student)
    assert cli.run(["evaluate", str(run), "code=marks.py"]) == 0
    test = json.loads((run / "result.json").read_text())["test"]
    shown = capsys.readouterr().out
    assert f"again {test['again']:.4f}, tested 0.5000, top2 {test['top2']:.4f}" in shown
    [file] = student.glob("outputs/evaluations/*/evaluation.json")
    assert json.loads(file.read_text())["top2"] == pytest.approx(test["top2"])


def test_the_best_epoch_is_that_of_the_monitored_metric(student: Path) -> None:
    monitored = "int(probabilities.max() * 1e9) % 1000"
    edit(student, "return {161: np.nan, 179: 0.5}.get(len(labels), 1.0)", f"return {monitored}")
    assert cli.run([*TRAIN, "train.monitor=tested", "outputs=chosen"]) == 0
    rows = RunFolder(run_of(student, "chosen")).history()
    best = min(rows, key=lambda row: (row["val_tested"], row["val_loss"]))
    assert result(run_of(student, "chosen")).best_epoch == best["epoch"]


def test_a_monitored_metric_without_a_value_leaves_the_choice_to_the_loss(student: Path) -> None:
    assert cli.run([*TRAIN, "train.monitor=tested", "outputs=chosen"]) == 0
    rows = RunFolder(run_of(student, "chosen")).history()
    assert result(run_of(student, "chosen")).best_epoch == min(
        rows, key=lambda row: row["val_loss"]
    )["epoch"]  # fmt: skip


def test_later_commands_show_them_without_the_file(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (student / "marks.py").unlink()
    assert cli.run(["list"]) == 0
    assert "test_top2" in capsys.readouterr().out
    assert cli.run(["list", "test_top2>0.1", "--sort", "-val_again", "--format", "csv"]) == 0
    head, row = capsys.readouterr().out.splitlines()
    values = dict(zip(head.split(","), row.split(","), strict=True))
    assert float(values["test_top2"]) == result(run_of(student)).metric("test_top2")
    assert values["val_tested"] == ""
    assert cli.run(["compare", "outputs", "--metric", "test_again"]) == 0
    assert "again" in capsys.readouterr().out
    assert cli.run(["compare", "outputs", "--metric", "test_agian"]) == 1
    assert "did you mean 'test_again'?" in capsys.readouterr().err
    assert cli.run(["report", "outputs"]) == 0
    assert "test top2" in (student / "report.html").read_text()


def test_curves_and_final_values_are_in_tensorboard(student: Path) -> None:
    scalars, rows = read_scalars(run_of(student)), RunFolder(run_of(student)).history()
    values = [value for _, value, _ in scalars["top2/val"]]
    assert values == pytest.approx([row["val_top2"] for row in rows])
    assert scalars["final/test_tested"][0][1] == 0.5
    assert "final/val_tested" not in scalars


def test_a_sweep_ranks_by_one_and_a_search_is_guided(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = ["train", "-m", *TRAIN[1:], "train.epochs=1", "sweep.metric=val_again"]
    assert cli.run([*sweep, "optim.lr=1e-5,1e-2", "jobs=2", "outputs=grid"]) == 0
    assert "finished  val again " in capsys.readouterr().out
    [table] = student.glob("grid/sweeps/*/*.csv")
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [row["optim.lr"] for row in rows] == ["0.01", "1e-05"]
    assert float(rows[0]["val_again"]) < float(rows[1]["val_again"])
    [report] = student.glob("grid/sweeps/*/report.html")
    assert "validation again" in report.read_text()
    search = ["sweep.search=random", "sweep.trials=2", "optim.lr=1e-5,1e-2", "outputs=search"]
    assert cli.run([*sweep, *search]) == 0
    [state] = student.glob("search/sweeps/*/sweep.json")
    trials = json.loads(state.read_text())["jobs"]
    assert [trial["state"] for trial in trials] == ["finished", "finished"]
    for trial in trials:
        actual = result(student / "search" / "runs" / trial["run_id"])
        assert trial["value"] == actual.metric("val_again")
    unknown = ["sweep.metric=val_tested", *search[:3], "outputs=unknown"]
    assert cli.run([*sweep[:-1], *unknown]) == 0


def test_a_metric_that_raises_on_made_up_data_is_refused_before_training(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    edit(student, "[:, :2]", "[:, :2].no_such")
    assert cli.run([*TRAIN, "outputs=refused"]) == 1
    output = capsys.readouterr().err.splitlines()
    assert output[0].startswith("tinylab: metric top2: AttributeError: ")
    assert (
        output[1].strip() == f"{student / 'marks.py'}:7, in top2 (labels: 20, probabilities: 20x10)"
    )
    assert len(output) == 3
    assert not (student / "refused").exists()


def test_a_finished_run_needs_no_file_of_metrics_and_another_training_does(
    student: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = [*TRAIN, "train.monitor=again", "outputs=chosen"]
    assert cli.run(chosen) == 0
    run = str(run_of(student, "chosen"))
    assert cli.run(["train", "--from", run, "seed=1", "outputs=repeated"]) == 0
    assert result(run_of(student, "repeated")).metric("test_again") is not None
    (student / "marks.py").unlink()
    assert cli.run(["evaluate", run]) == 0
    assert cli.run(["train", "--from", run, "seed=1"]) == 1
    assert "none of your files declares this metric" in capsys.readouterr().err
