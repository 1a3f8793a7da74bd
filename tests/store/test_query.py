"""What lies in an outputs folder: states, filters, order, and `tinylab list`."""

import csv
import io
import json
import operator
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock
from hypothesis import given
from hypothesis import strategies as st

from run_folders import begun, config, failed, finished, stopped
from tinylab import cli
from tinylab.config.identity import run_id
from tinylab.config.schema import SplitConfig, TrainConfig
from tinylab.errors import UserError
from tinylab.store import query
from tinylab.store.folder import RunFolder
from tinylab.store.query import Condition, in_order, runs_in, select
from tinylab.store.run import Run


@pytest.fixture
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs folder of the working folder, where commands look by themselves."""
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


def listed(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What ``tinylab list`` says."""
    assert cli.run(["list", *arguments]) == 0
    return capsys.readouterr().out


def seeds(result: list[Run]) -> list[int]:
    return [run.row["seed"] for run in result]


# ---------------------------------------------------------------- states


@pytest.mark.parametrize(
    ("make", "state"),
    [(begun, "stopped"), (stopped, "stopped"), (failed, "failed"), (finished, "finished")],
)
def test_the_state_follows_from_the_files(make: object, state: str, outputs: Path) -> None:
    folder = make(outputs)  # type: ignore[operator]
    [run] = runs_in(outputs)
    assert (run.folder, run.row["run"], run.row["state"]) == (folder, folder.name, state)
    assert run.row["epochs"] == (10 if state == "finished" else 1)


@pytest.mark.costly
def test_who_holds_the_lock_is_running_and_keeps_it(outputs: Path) -> None:
    folder = failed(outputs)
    lock = FileLock(folder.parent / ".locks" / f"{folder.name}.lock")
    code = f"""
import sys
from pathlib import Path
from typing import Any
from tinylab.store.folder import RunFolder
with RunFolder(Path({str(folder)!r})).sole_writer():
    print("held", flush=True)
    sys.stdin.readline()
"""
    with subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as owner:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "held\n"
        for _ in range(3):  # asking does not take it away
            assert query.read(folder).row["state"] == "running"
        with (
            pytest.raises(UserError, match="is being trained by another process"),
            RunFolder(folder).sole_writer(wait=False),
        ):
            pass
        owner.communicate("\n")
    assert query.read(folder).row["state"] == "failed"
    lock.acquire(timeout=0)  # nor does it keep it
    lock.release()


def test_looking_makes_no_file(outputs: Path) -> None:
    stopped(outputs)
    before = sorted(outputs.rglob("*"))
    runs_in(outputs)
    assert sorted(outputs.rglob("*")) == before


@pytest.mark.parametrize(
    ("result", "state"),
    [
        ("", "stopped"),  # as for `tinylab train`, which goes on with it
        ("[1, 2]", "stopped"),
        ('{"status": "finished"}', "damaged"),
        ('{"status": "finished", "test": null}', "damaged"),
    ],
)
def test_a_damaged_result_does_not_spoil_the_list(
    result: str, state: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (finished(outputs) / "result.json").write_text(result)
    stopped(outputs, seed=1)
    assert sorted(run.row["state"] for run in runs_in(outputs)) == sorted([state, "stopped"])
    assert state in listed(capsys)


@pytest.mark.parametrize("text", ["", "- 1", "a: [", "\0", "a: 1\nb"])
def test_a_damaged_config_leaves_a_run_without_config_keys(text: str, outputs: Path) -> None:
    (stopped(outputs) / "config.yaml").write_text(text)
    [run] = runs_in(outputs)
    assert "optim.lr" not in run.row


def test_only_folders_of_runs_are_runs(outputs: Path) -> None:
    folder = finished(outputs)
    (outputs / "runs" / ".hidden-x-0123456789.tmp").mkdir()
    (outputs / "runs" / "notes").mkdir()
    (outputs / "runs" / "digits-mlp-0123456789").write_text("a file")
    assert [run.folder for run in runs_in(outputs)] == [folder]
    for wrong in (outputs, outputs / "runs" / "notes", outputs / "runs" / "digits-mlp-0123456789"):
        with pytest.raises(UserError, match="expected the folder of a run"):
            query.read(wrong)


def test_a_renamed_run_is_a_run_still(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(outputs)
    named = folder.rename(folder.with_name("the best one"))
    [run] = runs_in(outputs)
    assert (run.folder, run.row["state"]) == (named, "finished")
    assert "the best one" in listed(capsys)


def test_a_row_has_config_metrics_time_and_size(outputs: Path) -> None:
    folder = finished(outputs, test=0.9, val=None, lr=0.25, seed=3)
    os.utime(folder / "result.json", (0, 1_700_000_000))
    row = query.read(folder).row
    assert row["optim"] == "adam"
    assert row["optim.lr"] == 0.25
    assert (row["model"], row["dataset"], row["seed"]) == ("mlp", "digits", 3)
    assert (row["val_accuracy"], row["test_accuracy"], row["test_low"]) == (None, 0.9, 0.88)
    assert repr(row["parameters"]) == "1234", "a count stays a whole number"
    assert row["size"] == sum(path.stat().st_size for path in folder.iterdir())
    assert row["when"].startswith("2023-11-1")


def test_a_failed_run_says_why(outputs: Path) -> None:
    assert query.read(failed(outputs, "too hot")).row["error"] == "too hot"


# ---------------------------------------------------------------- conditions

numbers = st.one_of(st.integers(-5, 5), st.floats(-5, 5))
REFERENCE = {
    "=": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le,
    ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


@given(value=numbers, typed=numbers, sign=st.sampled_from(sorted(REFERENCE)))
def test_numbers_are_compared_as_numbers(value: float, typed: float, sign: str) -> None:
    [condition] = query.conditions([f"x{sign}{typed!r}"])
    assert condition.holds({"x": value}) == REFERENCE[sign](value, typed)


@pytest.mark.parametrize(
    ("text", "holds"),
    [
        ("word=cosine", True),
        ("word=cos*", True),
        ("word=cos", False),
        ("word!=sine", True),
        ("word<d", True),
        ("flag=true", True),
        ("flag=True", False),
        ("flag!=true", False),
        ("none=null", True),
        ("none!=3", True),
        ("none<3", False),
        ("none=3", False),
        ("number=null", False),
        ("number!=null", True),
        ("number=1e-3", True),
        ("number=.001", True),
        ("big=9223372036854775807", True),
        ("big=9223372036854775806", False),
        ("path=/a[1]/*", True),
        ("path=*", True),
        ("absent=null", True),
    ],
)
def test_conditions_hold_or_not(text: str, holds: bool) -> None:
    row = {
        "word": "cosine", "flag": True, "none": None, "number": 0.001, "big": 2**63 - 1,
        "path": "/a[1]/b",
    }  # fmt: skip
    [condition] = query.conditions([text])
    assert condition.holds(row) is holds


def test_a_number_is_compared_with_nothing_but_a_number() -> None:
    with pytest.raises(UserError, match=r"optim\.lr<fast: expected a number"):
        Condition("optim.lr", "<", "fast").holds({"optim.lr": 0.1})


# ---------------------------------------------------------------- choosing


def test_all_conditions_must_hold_and_names_add_up(outputs: Path) -> None:
    folders = [finished(outputs, seed=seed, lr=0.1 / (seed + 1)) for seed in range(4)]
    assert sorted(seeds(select([], outputs))) == [0, 1, 2, 3]
    assert sorted(seeds(select(["optim.lr<0.06", "seed!=3"], outputs))) == [1, 2]
    names = [folders[3].name, str(folders[1]), f"{folders[1]}/"]
    assert seeds(select(names, outputs)) == [3, 1]
    assert seeds(select([*names, "seed>1"], outputs)) == [3]
    assert len(select(["digits-*"], outputs)) == 4
    assert select(["state=failed"], outputs) == []


def test_old_runs_are_shown_where_they_are_asked_for(outputs: Path) -> None:
    new = finished(outputs)
    old = new.rename(new.with_name(f"{new.name}.20261123-101112-2"))
    finished(outputs)
    assert len(select([], outputs)) == len(select(["digits-*"], outputs)) == 1
    assert len(select([], outputs, with_archived=True)) == 2
    for word in (old.name, str(old)):
        [run] = select([word], outputs)
        assert (run.folder, run.row["state"]) == (old, "set aside")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.lrr<1"], r"optim\.lrr: not a key of any run \(did you mean 'optim\.lr'\?\)"),
        (["nothing"], "nothing: no such run in outputs/runs; expected a run's name or folder"),
        (["outputs"], "outputs: expected the folder of a run"),
    ],
)
def test_what_cannot_be_meant_is_refused(words: list[str], message: str, outputs: Path) -> None:
    finished(outputs)
    with pytest.raises(UserError, match=message):
        select(words, outputs)


def test_a_folder_whose_name_looks_like_a_condition_is_a_folder(outputs: Path) -> None:
    folder = finished(Path("try=2"))
    assert [run.folder for run in select([str(folder)], outputs)] == [folder]


values = st.lists(st.one_of(st.none(), st.integers(0, 3), st.sampled_from("ab")), max_size=8)


@given(values)
def test_sorting_leaves_those_without_a_value_at_the_end(values: list[int | str | None]) -> None:
    made = [with_row({"x": value}) for value in values]
    up = [run.row["x"] for run in in_order(made, "x")]
    present = [value for value in values if value is not None]
    expected = sorted(present, key=lambda value: (isinstance(value, str), value))
    absent = [None] * (len(values) - len(present))
    assert up == expected + absent
    assert [run.row["x"] for run in in_order(made, "-x")] == expected[::-1] + absent


def with_row(row: dict[str, Any]) -> Run:
    """A run whose row needs no folder."""
    run = Run(RunFolder(Path()), None)
    vars(run)["row"] = row
    return run


# ---------------------------------------------------------------- the command


def test_the_table_has_a_line_a_run_and_a_sum(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for made, moment in ((finished(outputs, test=0.5), 2), (finished(outputs, seed=1), 1)):
        os.utime(made / "result.json", (moment, moment))
    failed(outputs, seed=2)
    head, first, second, last, total = listed(capsys).splitlines()
    assert head.split()[:4] == ["run", "state", "when", "epochs"]
    assert "10/10   80.00%   90.00% (88.00–91.00)  3.2 " in first  # the older one
    assert " 50.00% (48.00–51.00)" in second
    assert " failed " in last
    assert last.endswith("too hot")
    assert total.startswith("2 finished, 1 failed; ")


def test_keys_that_are_asked_for_are_shown(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in range(3):
        finished(outputs, seed=seed, lr=0.25)
    head, *rows, _ = listed(capsys, "optim.lr>0.1", "--sort", "-seed").splitlines()
    assert head.split()[-2:] == ["optim.lr", "seed"]
    assert [row.split()[-2:] for row in rows] == [["0.25", str(seed)] for seed in (2, 1, 0)]


def test_what_distinguishes_the_runs_is_shown_unasked(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, lr in ((0, 0.1), (1, 0.1), (2, 0.25)):
        finished(outputs, seed=seed, lr=lr, threads=1 + seed)
    head, *rows, _ = listed(capsys, "--sort", "seed").splitlines()
    assert head.split()[-2:] == ["seed", "optim.lr"], "threads do not count"
    assert [row.split()[-2:] for row in rows] == [["0", "0.1"], ["1", "0.1"], ["2", "0.25"]]


def test_keys_of_the_users_own_parts_are_shown_unasked(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, channels in ((0, 4), (1, 8)):
        file = finished(outputs, seed=seed) / "result.json"
        values = json.loads(file.read_text())
        values["config"]["model"] = {"name": "mycnn", "channels": channels}
        values["config"]["seed"] = 0
        file.write_text(json.dumps(values))
    failed(outputs, seed=2)
    for file in (outputs / "runs").glob("*/config.yaml"):
        if not file.with_name("result.json").exists():
            file.unlink()  # it failed before its config was written
    head, *rows, _ = listed(capsys, "--sort", "model.channels").splitlines()
    assert head.split()[-1] == "model.channels"
    assert [row.split()[-1] for row in rows[:2]] == ["4", "8"]


def test_keys_that_have_no_column_are_named_below(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed in (0, 1):
        split = SplitConfig(seed=seed + 3, val=0.1 + 0.1 * seed, stratified=bool(seed))
        train = TrainConfig(epochs=1 + seed, batch_size=32 + seed)
        finished(outputs, seed=seed, lr=0.1 + seed, split=split, train=train)
    head, *_, last = listed(capsys).splitlines()
    assert last.startswith("more varying keys: ")
    shown, named = set(head.split()), {word.strip(",") for word in last.split()}
    assert not shown & named
    varied = {"seed", "optim.lr", "split.seed", "split.val", "split.stratified", "train.batch_size"}
    assert varied <= shown | named


def test_a_long_error_is_cut_to_the_screen(
    outputs: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    failed(outputs, "it is " + 100 * "very " + "hot\n  cool it")
    for columns, most in ((160, 160), (40, 140)):  # at least some words of it are shown
        monkeypatch.setenv("COLUMNS", str(columns))
        _, row, _ = listed(capsys).splitlines()
        assert "it is very very very" in row
        assert row.endswith("…")
        assert len(row) <= most
    assert 100 * "very " in listed(capsys, "--format", "csv")


def test_csv_and_json_hold_every_key_and_figure(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(outputs, test=0.123456789, lr=0.25)
    stopped(outputs, seed=1)
    rows = list(csv.DictReader(io.StringIO(listed(capsys, "--format", "csv", "--sort=seed"))))
    assert [row["test_accuracy"] for row in rows] == ["0.123456789", ""]
    assert rows[0]["optim.lr"] == "0.25"
    values = json.loads(listed(capsys, "--format=json", "seed=0"))
    assert values[0]["test_accuracy"] == 0.123456789
    assert values[0]["folder"] == f"outputs/runs/{run_id(config(lr=0.25))}"
    assert json.loads(listed(capsys, "--format=json", "seed=9")) == []


def test_nothing_is_said_to_be_nothing(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert listed(capsys) == "no run in outputs/runs\n"
    finished(outputs)
    assert listed(capsys, "seed=9") == "no such run in outputs/runs\n"


@pytest.mark.parametrize("arguments", [["--sort", "nix"], ["--sort"], ["seed<x"], ["--nix"]])
def test_wrong_arguments_are_refused_in_words(
    arguments: list[str], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(outputs)
    assert cli.run(["list", *arguments]) == 1
    error = capsys.readouterr().err
    assert error.startswith("tinylab: ")
    assert "Traceback" not in error


@pytest.mark.costly
def test_listing_imports_no_torch(outputs: Path) -> None:
    finished(outputs)
    program = """
import sys
from tinylab import cli
cli.run(["list"])
print("HEAVY" if {"torch", "hydra", "matplotlib"} & set(sys.modules) else "LEAN")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "1 finished" in done.stdout
    assert done.stdout.endswith("LEAN\n"), done.stdout + done.stderr


def test_a_sweep_stands_for_its_runs(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [finished(outputs, seed=seed) for seed in (0, 1, 2)]
    sweep = outputs / "sweeps" / "own"
    sweep.mkdir(parents=True)
    jobs = [{"run_id": folder.name, "state": "finished"} for folder in folders[:2]]
    missing = {"run_id": "digits-mlp-0123456789", "state": "missing"}
    (sweep / "sweep.json").write_text(json.dumps({"jobs": [*jobs, missing]}))
    assert seeds(select([str(sweep)], outputs)) == [0, 1]
    assert seeds(select([str(sweep), "seed=1"], outputs)) == [1]
    assert "2 finished" in listed(capsys, str(sweep))
    (sweep / "sweep.json").write_text("{}")
    with pytest.raises(UserError, match="no such run"):
        select([str(sweep)], outputs)


@pytest.mark.parametrize(
    ("typed", "holds"),
    [
        ("mine.py", True), ("nets/mine.py", True), ("./nets/mine.py", True), ("*.py", True),
        ("/a/nets/mine.py", True), ("marks.py", True), ("ine.py", False), ("mine", False),
        ("other/mine.py", False), ("null", False), ("", False),
    ],
)  # fmt: skip
def test_a_file_of_the_users_may_be_named_by_the_end_of_its_path(typed: str, holds: bool) -> None:
    row = {"code": ["/a/nets/mine.py", "/a/marks.py"]}
    assert Condition("code", "=", typed).holds(row) is holds
    assert Condition("code", "!=", typed).holds(row) is not holds
    assert Condition("code", "=", "mine.py").holds({"code": "/a/nets/mine.py"})
    assert not Condition("code", "=", "mine.py").holds({"code": None})
    assert Condition("code", "=", "null").holds({"code": None})


def test_a_run_may_be_named_by_dots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = finished(tmp_path)
    monkeypatch.chdir(folder)
    assert [run.name for run in select(["."], Path("outputs"))] == [folder.name]
    (folder / "inside").mkdir()
    monkeypatch.chdir(folder / "inside")
    [run] = select([".."], Path("outputs"))
    assert run.folder == folder
    assert RunFolder(Path("..")).name == folder.name
