"""Screens and logs that cannot be written: what is said there is lost, and nothing else."""

import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tinylab.ui import console

PROGRAM = [sys.executable, "-m", "tinylab"]
TRAIN = ["train", "model=mlp", "model.layers=0", "train.epochs=1", "threads=1"]


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(28, "No space left on device")


def closed() -> io.StringIO:
    stream = io.StringIO()
    stream.close()
    return stream


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_slow_block_is_announced_on_a_terminal_alone(
    is_terminal: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console, "is_terminal", lambda: is_terminal)
    said = threading.Event()
    monkeypatch.setattr(console, "say", lambda line: said.set())
    with console.said_if_slow("loading ...", 60):
        pass
    assert not said.is_set()
    with console.said_if_slow("loading ...", 0):
        assert said.wait(5 if is_terminal else 0.01) == is_terminal


@pytest.mark.parametrize("stdout", [None, Full(), closed()])
def test_a_screen_that_cannot_be_written_raises_nothing_and_the_log_has_the_line(
    stdout: io.StringIO | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", stdout)
    with console.log_to(tmp_path / "a.log"):
        console.say("a line")
        assert list(console.track(range(2), "counting", 2)) == [0, 1]
    monkeypatch.undo()
    assert "a line" in (tmp_path / "a.log").read_text()
    assert "counting" in (tmp_path / "a.log").read_text()


def test_a_log_that_cannot_be_written_raises_nothing_and_the_screen_has_the_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for log in ("/dev/full", tmp_path / "absent" / "a.log"):
        with console.log_to(Path(log)) as write:
            console.say("a line")
            write("for the log alone")
    assert capsys.readouterr().out == "a line\na line\n"


@pytest.mark.costly
@pytest.mark.parametrize("redirection", [">&-", "> /dev/full", "2>&- >&-", "> /dev/full 2>&1"])
def test_a_training_does_not_need_its_screen(redirection: str, tmp_path: Path) -> None:
    command = " ".join([*PROGRAM, *TRAIN, f"outputs={tmp_path}", redirection])
    done = subprocess.run(command, shell=True, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    [folder] = (tmp_path / "runs").glob("digits-*")
    assert (folder / "result.json").exists()
    assert (folder / "confusion.png").exists()
    assert not (folder / "failure.json").exists()


@pytest.mark.costly
def test_an_answer_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [*PROGRAM, "list", "--outputs", str(tmp_path)],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 1
    assert done.stderr == "tinylab: standard output: No space left on device\n"


@pytest.mark.costly
def test_a_reader_that_has_gone_is_no_error(tmp_path: Path) -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [*PROGRAM, "list", "--outputs", str(tmp_path)],
        stdout=write_end,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(write_end)
    assert done.stderr == ""
    assert done.returncode == 0
