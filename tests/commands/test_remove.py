"""`tinylab remove`: what is shown is removed, whole, after a yes, and nothing that is in use."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from option_records import DigitsConfig
from run_folders import failed, finished, stopped
from tinylab import cli
from tinylab.config.schema import SplitConfig
from tinylab.data import load
from tinylab.store.folder import RunFolder
from tinylab.store.sweep import SweepFolder


@pytest.fixture(autouse=True)
def outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The outputs folder of the working folder, where commands look by themselves."""
    monkeypatch.chdir(tmp_path)
    return Path("outputs")


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[str]]:
    """Sit at a terminal and answer; the list fills with the questions."""
    asked: list[str] = []

    def answer_with(text: str) -> list[str]:
        def ask(question: str) -> str:
            asked.append(question)
            if text == "^D":
                raise EOFError
            return text

        monkeypatch.setattr("builtins.input", ask)
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        return asked

    return answer_with


@contextlib.contextmanager
def held(folder: Path, begin: bool = True) -> Iterator[Callable[[], None]]:
    """Another thread holds the run's lock, at once or when the yielded function is called."""
    begun, ended = threading.Event(), threading.Event()

    def hold() -> None:
        with RunFolder(folder).sole_writer():
            begun.set()
            ended.wait()

    thread = threading.Thread(target=hold)

    def start() -> None:
        thread.start()
        begun.wait()

    if begin:
        start()
    try:
        yield start
    finally:
        ended.set()
        thread.join()


def left(outputs: Path) -> list[str]:
    """What is in ``outputs/runs``, hidden or not, apart from the locks."""
    return sorted(name for name in os.listdir(outputs / "runs") if name != ".locks")


def test_what_matches_is_shown_and_removed_after_a_yes(
    outputs: Path, answer: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = finished(outputs)
    to_remove = [failed(outputs, seed=1), stopped(outputs, seed=2), finished(outputs, seed=3)]
    (to_remove[0] / "deeper").mkdir()
    (to_remove[0] / "deeper" / "file").write_bytes(b"x" * 2_000_000)
    asked = answer("y")
    assert cli.run(["remove", "seed>0"]) == 0
    assert left(outputs) == [kept.name]
    assert asked == ["remove these 3 runs (2.0 MB)? [y/N] "]
    shown = capsys.readouterr().out
    for folder, state in zip(to_remove, ("failed", "stopped", "finished"), strict=True):
        assert f"{folder.name}  {state}" in shown


@pytest.mark.parametrize("text", ["", "n", "no", "x", "^D"])
def test_nothing_is_removed_without_a_yes(
    text: str,
    outputs: Path,
    answer: Callable[[str], list[str]],
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = finished(outputs)
    asked = answer(text)
    assert cli.run(["remove", str(folder)]) == 1
    assert len(asked) == 1
    assert "this run" in asked[0]
    assert left(outputs) == [folder.name]
    assert capsys.readouterr().err == "tinylab: nothing removed\n"


def test_a_script_must_say_yes(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = finished(outputs)
    monkeypatch.setattr(sys.stdin, "isatty", lambda: False, raising=False)
    assert cli.run(["remove", "*"]) == 1
    assert "use --yes to remove without asking" in capsys.readouterr().err
    assert left(outputs) == [folder.name]
    assert cli.run(["remove", "*", "--yes"]) == 0
    assert left(outputs) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected filters or runs"),
        (["--yes"], "expected filters or runs"),
        (["seed=7", "--yes"], "no such run in outputs/runs: nothing removed"),
        (["--set-aside", "--yes"], "no such run in outputs/runs: nothing removed"),
        (["nowhere/*", "--yes"], "nowhere/*: no such run in outputs/runs"),
        (["outputs", "--yes"], "outputs: expected the folder of a run"),
        (["conf", "--yes"], "conf: expected the folder of a run"),
    ],
)
def test_what_matches_nothing_is_said(
    arguments: list[str], message: str, outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finished(outputs)
    Path("conf").mkdir()
    Path("conf/config.yaml").write_text("seed: 0")
    assert cli.run(["remove", *arguments]) == 1
    assert message in capsys.readouterr().err
    assert len(left(outputs)) == 1
    assert Path("conf/config.yaml").exists()


def test_a_running_one_is_left_alone_and_named(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    busy, other = stopped(outputs), stopped(outputs, seed=1)
    with held(busy):
        assert cli.run(["remove", "*", "--yes"]) == 1
        assert cli.run(["remove", str(busy), "--yes"]) == 1
    assert left(outputs) == [busy.name]
    said = capsys.readouterr()
    assert said.err == 2 * f"tinylab: not removed, since they are being trained: {busy.name}\n"
    assert "this run" in said.out
    assert other.name in said.out


def test_one_that_begins_to_run_while_we_ask_is_left_alone(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first, busy = sorted([stopped(outputs), stopped(outputs, seed=1)])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    with held(busy, begin=False) as begin:

        def ask(_: str) -> str:
            begin()
            return "yes"

        monkeypatch.setattr("builtins.input", ask)
        assert cli.run(["remove", "*"]) == 1
    assert f"{busy.name} is being trained by another process" in capsys.readouterr().err
    assert left(outputs) == [busy.name], "the first is gone, and nothing of it is left hidden"
    assert not first.exists()


def listed(outputs: Path, name: str, *runs: Path) -> Path:
    """A sweep that lists these runs."""
    folder = outputs / "sweeps" / name
    folder.mkdir(parents=True)
    jobs = [{"run_id": run.name, "overrides": {}, "state": "finished"} for run in runs]
    (folder / "sweep.json").write_text(json.dumps({"arguments": [], "jobs": jobs}))
    return folder


@pytest.mark.parametrize("words", [["outputs/sweeps/two"], ["name=two"], ["name=t*o", "seed<9"]])
def test_runs_of_a_sweep_that_another_lists_are_kept(
    words: list[str], outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, *shared = (finished(outputs, name="two", seed=seed) for seed in range(3))
    listed(outputs, "two", own, *shared)
    listed(outputs, "tta", *shared)
    assert cli.run(["remove", *words, "--yes"]) == 0
    assert left(outputs) == sorted(run.name for run in shared)
    said = capsys.readouterr().out
    assert "2 runs are kept: they are also in outputs/sweeps/tta\n" in said
    assert "removing this run" in said
    assert shared[0].name not in said
    assert cli.run(["remove", *words, "--yes"]) == 1
    assert left(outputs) == sorted(run.name for run in shared)


def test_a_shared_run_is_removed_with_both_sweeps_or_if_it_is_named(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second, third = (finished(outputs, seed=seed) for seed in range(3))
    sweeps = [str(listed(outputs, name, first, second, third)) for name in ("two", "tta")]
    assert cli.run(["remove", str(first), "--yes"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1 run to remove is part of outputs/sweeps/tta, outputs/sweeps/two\n")
    assert cli.run(["remove", sweeps[0], second.name, "--yes"]) == 0
    assert left(outputs) == [third.name]
    assert "1 run is kept: it is also in outputs/sweeps/tta\n" in capsys.readouterr().out
    assert cli.run(["remove", sweeps[1], "--yes"]) == 0
    assert left(outputs) == []
    assert "kept" not in capsys.readouterr().out.partition("removing")[0]


def evaluated(outputs: Path, name: str) -> Path:
    """The folder of an evaluation."""
    folder = outputs / "evaluations" / name
    folder.mkdir(parents=True)
    (folder / "evaluation.json").write_text("{}")
    return folder


def test_a_sweep_goes_with_its_runs_after_one_question(
    outputs: Path, answer: Callable[[str], list[str]]
) -> None:
    runs = [finished(outputs, seed=seed) for seed in range(2)]
    sweep = listed(outputs, "two", *runs)
    (sweep / "report.html").write_bytes(b"x" * 3_000_000)
    (sweep / "tensorboard").mkdir()
    (sweep / "tensorboard" / "seed=0").symlink_to(runs[0].absolute())
    asked = answer("y")
    assert cli.run(["remove", f"{sweep}/"]) == 0
    assert asked == ["remove these 2 runs and this folder (3.0 MB)? [y/N] "]
    assert left(outputs) == []
    assert os.listdir(outputs / "sweeps") == [".locks"]


def test_folders_without_runs_are_removed_by_their_names(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = finished(outputs)
    sweep, evaluation = listed(outputs, "two", Path("digits-mlp-0")), evaluated(outputs, "mine")
    for words in (["seed=0", str(evaluation)], ["seed=0", str(sweep)], ["conf"]):
        assert cli.run(["remove", *words, "--yes"]) == 1
    assert (left(outputs), sweep.exists(), evaluation.exists()) == ([run.name], True, True)
    capsys.readouterr()
    assert cli.run(["remove", str(sweep), str(evaluation), "--yes"]) == 0
    assert "removing these 2 folders (" in capsys.readouterr().out
    assert (left(outputs), sweep.exists(), evaluation.exists()) == ([run.name], False, False)


def test_a_sweep_goes_without_the_runs_that_it_shares(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, shared = finished(outputs), finished(outputs, seed=1)
    two, tta = listed(outputs, "two", own, shared), listed(outputs, "tta", shared)
    assert cli.run(["remove", str(two), "--yes"]) == 0
    assert "removing this run and this folder (" in capsys.readouterr().out
    assert (left(outputs), two.exists()) == ([shared.name], False)
    assert cli.run(["remove", str(tta), "--yes"]) == 0
    assert (left(outputs), tta.exists()) == ([], False)


def test_a_sweep_with_a_running_run_or_files_of_others_is_kept(
    outputs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, other = finished(outputs), stopped(outputs, seed=1)
    two = listed(outputs, "two", own, other)
    with RunFolder(other).sole_writer(), ThreadPoolExecutor() as thread:
        assert thread.submit(cli.run, ["remove", str(two), "--yes"]).result() == 1
    assert "outputs/sweeps/two is kept, with 1 of its runs\n" in capsys.readouterr().out
    assert cli.run(["remove", str(two), other.name, "--set-aside", "--yes"]) == 1
    (two / "notes.txt").write_text("mine")
    assert cli.run(["remove", str(two), "--yes"]) == 0
    said = "outputs/sweeps/two is kept, with files that are not tinylab's: notes.txt\n"
    assert said in capsys.readouterr().out
    assert (two / "sweep.json").exists()
    assert left(outputs) == []


def test_a_sweep_in_use_is_left_alone(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = finished(outputs)
    sweep = listed(outputs, "two", run)
    with SweepFolder(sweep).sole_writer(), ThreadPoolExecutor() as other:
        assert other.submit(cli.run, ["remove", str(sweep), "--yes"]).result() == 1
    assert "two is in use by another process" in capsys.readouterr().err
    assert (left(outputs), sweep.exists()) == ([run.name], True)


def test_old_runs_are_removed_where_they_are_asked_for(outputs: Path) -> None:
    new = finished(outputs)
    for stamp in ("20261123-101112", "20261123-101112-2", "20251123-101112"):
        shutil.copytree(new, new.with_name(f"{new.name}.{stamp}"))
    assert cli.run(["remove", "state=failed", "--set-aside", "--yes"]) == 1
    old = new.with_name(f"{new.name}.20251123-101112")
    assert cli.run(["remove", str(old), "--yes"]) == 0
    assert len(left(outputs)) == 3
    assert cli.run(["remove", "--set-aside", "--yes"]) == 0
    assert left(outputs) == [new.name]


def test_a_run_of_another_outputs_folder_is_named_by_its_folder(outputs: Path) -> None:
    here, there = finished(outputs), finished(Path("elsewhere"))
    assert cli.run(["remove", f"{there}/", "--yes"]) == 0
    assert left(Path("elsewhere")) == []
    assert here.exists()


def test_a_link_is_refused(outputs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = finished(outputs)
    moved = folder.rename(Path(folder.name).absolute())
    folder.symlink_to(moved)
    assert cli.run(["remove", "*", "--yes"]) == 1
    assert "a symbolic link" in capsys.readouterr().err
    assert (moved / "result.json").exists()


def test_a_removal_that_was_killed_is_ended_by_the_next(
    outputs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, other = finished(outputs), finished(outputs, seed=1)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", killed)
        assert cli.run(["remove", str(folder), "--yes"]) == 130
    assert not folder.exists()
    assert len(left(outputs)) == 2
    assert cli.run(["list"]) == 0  # what is hidden is no run
    assert cli.run(["remove", str(other), "--yes"]) == 0
    assert left(outputs) == []


def test_a_folder_that_cannot_be_renamed_is_said(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    folder = finished(outputs)
    monkeypatch.setattr(Path, "rename", refuse)
    assert cli.run(["remove", "*", "--yes"]) == 1
    assert f"{folder}: cannot be removed: Permission denied" in capsys.readouterr().err


def test_decoded_images_are_removed_and_made_again(
    own_cache: Path, answer: Callable[[str], list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    first = load(DigitsConfig(), SplitConfig())
    [file] = own_cache.iterdir()
    (own_cache / f".{file.name}.0123.tmp").write_bytes(b"half")
    two_days_ago = time.time() - 2 * 86400
    os.utime(file, (two_days_ago, two_days_ago))
    asked = answer("y")
    assert cli.run(["remove", "--cache"]) == 0
    assert list(own_cache.iterdir()) == []
    assert asked[0].startswith("remove these 2 cached datasets (")
    assert f"{file.name}  " in (shown := capsys.readouterr().out)
    assert "2.0 days old" in shown
    assert cli.run(["remove", "--cache"]) == 1
    assert "no cached images" in capsys.readouterr().err
    assert load(DigitsConfig(), SplitConfig()).fingerprint == first.fingerprint


@pytest.mark.costly
def test_removing_imports_no_torch(outputs: Path) -> None:
    finished(outputs)
    program = """
import sys
from tinylab import cli
assert cli.run(["remove", "*", "--yes"]) == 0
assert not {"torch", "hydra", "matplotlib"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
