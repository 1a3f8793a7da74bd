"""``torchrun`` and ``srun`` start one command several times: one trains, the others say why not."""

import json
from pathlib import Path

import pytest

from server_kit import Server

pytestmark = pytest.mark.costly
RANKS = 3
COMMAND = ["train", "train.epochs=1", "threads=1"]


def start_all(server: Server, cwd: Path) -> str:
    """Start the command in as many processes at once; what they said. All must end well."""
    screen = cwd / "screen.log"
    screen.write_text("")
    assert server.run_at_once(cwd, COMMAND, RANKS) == [0] * RANKS, screen.read_text()
    assert "Traceback" not in screen.read_text()
    return screen.read_text()


def test_one_trains_and_the_others_answer_from_its_result(server: Server, tmp_path: Path) -> None:
    said = start_all(server, tmp_path)
    assert said.count("test    accuracy") == 1
    assert said.count("already finished: test accuracy") == RANKS - 1
    assert said.count("is being trained by another process: waiting") <= RANKS - 1
    said = start_all(server, tmp_path)
    assert said.count("already finished: test accuracy") == RANKS == len(said.splitlines())
    [result_file] = tmp_path.glob("outputs/runs/*/result.json")
    result = json.loads(result_file.read_text())
    result["environment"]["code_sha256"] = "of another version"
    result_file.write_text(json.dumps(result))
    said = start_all(server, tmp_path)
    assert said.count("old folder kept as") == 1
    assert said.count("test    accuracy") == 1
    assert said.count("already finished: test accuracy") == RANKS - 1
    assert len(list(tmp_path.glob("outputs/runs/digits-*"))) == 2
    new = json.loads(result_file.read_text())
    assert new["weights_sha256"] == result["weights_sha256"]
    assert new["failures"] == []


def test_a_new_result_that_was_waited_for_is_fresh_enough(server: Server, tmp_path: Path) -> None:
    """Else ranks with ``fresh=true`` would archive each other's result and train again."""
    command = ["train", "train.epochs=10", "model.hidden=8", "threads=1"]
    assert server.run(tmp_path, command) == 0
    assert server.run_at_once(tmp_path, [*command, "fresh=true"], RANKS) == [0] * RANKS
    said = (tmp_path / "screen.log").read_text()
    assert said.count("kept as") == 1
    assert said.count("test    accuracy") == 2
    assert said.count("already finished: test accuracy") == RANKS - 1
