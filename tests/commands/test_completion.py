"""The TAB key: what may follow a line, and that bash, zsh and fish put it there."""

import contextlib
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.commands import COMMANDS
from tinylab.commands.completion import SCRIPTS, answers
from tinylab.config.groups import choices, groups


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("tinylab tra", ["train"]),
        ("tinylab train", ["train"]),
        ("  .venv/bin/tinylab   tra", ["train"]),
        ("tinylab --v", ["--version"]),
        ("tinylab nix ", []),
        ("tinylab train mode", ["model.", "model="]),
        ("tinylab train seed=1 mode", ["model.", "model="]),
        ("tinylab train model=ba", ["model=baseline"]),
        ("tinylab train -m model=mlp,ba", ["model=mlp,baseline"]),
        ("tinylab train model=x", []),
        ("tinylab train model.hi", ["model.hidden="]),
        ("tinylab train optim.nesterov=", ["optim.nesterov=false", "optim.nesterov=true"]),
        ("tinylab train optim.lr=", ["optim.lr=0.001", "optim.lr=0.02", "optim.lr=0.1"]),
        ("tinylab train dataset.root=", []),  # files, by the shell
        ("tinylab train dataset.file=", []),
        ("tinylab train dataset.set=CI", ["dataset.set=CIFAR10", "dataset.set=CIFAR100"]),
        ("tinylab train train.precision=bf", ["train.precision=bfloat16"]),
        ("tinylab train experiment=mnist_bas", ["experiment=mnist_baseline"]),
        ("tinylab train --fr", ["--from"]),
        ("tinylab train --from out", []),
        ("tinylab verify out", []),
        ("tinylab verify run --ki", ["--kills"]),
        ("tinylab list --for", ["--format"]),
        ("tinylab list model=ml", ["model=mlp"]),
        ("tinylab evaluate dat", []),
        ("tinylab evaluate run dataset=fo", ["dataset=folder"]),
        ("tinylab evaluate run mod", []),
        ("tinylab completion z", ["zsh"]),
        ("tinylab nix --fl", []),
    ],
)
def test_a_line_is_answered(line: str, expected: list[str]) -> None:
    assert answers(line) == expected


def test_every_command_group_and_choice_is_offered() -> None:
    assert set(COMMANDS) < set(answers("tinylab "))
    offered = answers("tinylab train ")
    for group in groups():
        assert f"{group}=" in offered
        assert answers(f"tinylab train {group}=") == [f"{group}={name}" for name in choices(group)]
    assert "seed=" in offered
    assert not any("?" in answer for answer in offered)


def test_a_chosen_option_narrows_its_keys() -> None:
    every, sgd = answers("tinylab train optim."), answers("tinylab train optim=sgd optim.")
    assert "optim.momentum=" in sgd
    assert "optim.beta1=" not in sgd
    others = {f"optim.{key}=" for key in ("algorithm", "args", "beta1", "beta2", "eps", "rest_lr")}
    assert set(sgd) | others == set(every)


@pytest.mark.parametrize("command", sorted(COMMANDS.keys() - {"train"}))
def test_the_flags_are_those_of_the_help(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.run([command, "--help"])
    flags = set(re.findall(r"(?<=\[)--[\w-]+", capsys.readouterr().out.partition("\n\n")[0]))
    assert set(answers(f"tinylab {command} --")) - {"--help"} == flags


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_scripts_are_printed(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", shell]) == 0
    assert "tinylab completion answer" in capsys.readouterr().out.replace(
        '"$1"', "tinylab"
    ).replace("$words[1]", "tinylab")


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["completion", "csh"]) == 1
    assert "invalid choice: 'csh'" in capsys.readouterr().err


def test_hydras_own_completion_points_here(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "-sc", "install=bash"]) == 1
    assert "see tinylab completion" in capsys.readouterr().err


@pytest.mark.costly
def test_an_answer_imports_neither_torch_nor_hydra() -> None:
    program = """
import sys
from tinylab import cli
assert cli.run(["completion", "answer", "tinylab train optim."]) == 0
assert not {"torch", "hydra", "numpy", "yaml", "rich"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)


# ---------------------------------------------------------------- in real shells

STARTS = {
    "bash": ["bash", "--noprofile", "--norc", "-i"],
    "zsh": ["zsh", "-f", "-i"],
    "fish": ["fish", "--no-config", "-i"],
}


@pytest.fixture(params=STARTS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator["Shell"]:
    """A shell at a terminal of its own, with tinylab on its path and completion switched on."""
    if shutil.which(STARTS[request.param][0]) is None:
        pytest.skip(f"{request.param} is not installed")
    (tmp_path / "tinylab").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tinylab "$@"\n')
    (tmp_path / "tinylab").chmod(0o755)
    (tmp_path / "photos").mkdir()
    with Shell(STARTS[request.param], tmp_path) as started:
        load = {"fish": "tinylab completion fish | source"}
        started.run(load.get(request.param, f'eval "$(tinylab completion {request.param})"'))
        yield started


class Shell:
    """What a person at a terminal types, and what the terminal shows."""

    def __init__(self, command: list[str], folder: Path) -> None:
        self._pid, self._terminal = pty.fork()
        if self._pid == 0:
            os.chdir(folder)
            environment = {
                **os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder),
                "TERM": "xterm", "COLUMNS": "200", "PS1": "> ",
            }  # fmt: skip
            os.execvpe(command[0], command, environment)

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *_: object) -> None:
        os.kill(self._pid, 9)
        os.waitpid(self._pid, 0)
        os.close(self._terminal)

    def run(self, typed: str) -> str:
        """Type, and return what the terminal shows until the shell says that it is done."""
        os.write(self._terminal, f"{typed}\n".encode())
        os.write(self._terminal, b"echo do''ne\n")
        return self._until("done\r\n")

    def completed(self, typed: str) -> str:
        """What the line has become after the TAB key."""
        # To the start of the line, so that the shell prints it instead of running it.
        return self.run(f"{typed}\t\x01echo '<' \x05 '>'").split("<")[-1].split(">")[0].strip()

    def _until(self, end: str) -> str:
        shown, deadline = "", time.monotonic() + 30
        while end not in shown:
            ready, _, _ = select.select([self._terminal], [], [], deadline - time.monotonic())
            assert ready, shown
            with contextlib.suppress(OSError):
                shown += os.read(self._terminal, 4096).decode(errors="replace")
        return shown


@pytest.mark.costly
@pytest.mark.parametrize(
    ("typed", "line"),
    [
        ("tinylab compl", "tinylab completion"),
        ("tinylab train model=base", "tinylab train model=baseline"),
        ("tinylab train optim=sgd optim.nest", "tinylab train optim=sgd optim.nesterov="),
        ("tinylab train -m model=mlp,base", "tinylab train -m model=mlp,baseline"),
        ("tinylab verify pho", "tinylab verify photos"),
        ("tinylab train dataset.root=pho", "tinylab train dataset.root=photos"),
    ],
)
def test_the_tab_key_completes_the_line(shell: "Shell", typed: str, line: str) -> None:
    # zsh takes the slash that it has put after a folder away again when one goes on typing.
    assert shell.completed(typed).rstrip("/") == line
