"""`tinylab verify`: it says identical where that is so, and notices a sabotaged resume."""

import random
import sys
from pathlib import Path

import pytest

from tinylab import cli
from tinylab.commands import verify
from tinylab.errors import UserError

SABOTAGED = """
import torch
torch.set_rng_state = lambda state: None
from tinylab.cli import main
main()
"""


@pytest.fixture(scope="module")
def run(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with dropout, and epochs so long that most kills fall inside one."""
    outputs = tmp_path_factory.mktemp("outputs")
    overrides = ["train.epochs=1", "train.batch_size=2", "threads=1", f"outputs={outputs}"]
    assert cli.run(["train", *overrides]) == 0
    [result] = outputs.glob("runs/*/result.json")
    return result.parent


def test_a_killed_and_resumed_run_is_found_identical(run: Path) -> None:
    assert verify.verify(run, epochs=2, kills=1, moments=random.Random(1)) == []


def test_a_resume_that_forgets_the_random_state_is_found_different(run: Path) -> None:
    program = [sys.executable, "-c", SABOTAGED]
    differences = verify.verify(run, 2, 2, random.Random(1), program)
    assert any(line.startswith("weights: ") for line in differences)
    assert differences[-1].startswith("likely cause: ")


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"expected the folder of a run"):
        verify.verify(tmp_path, 1, 1, random.Random(0))


def test_wrong_arguments_are_one_line_and_exit_code_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert cli.run(["verify"]) == 1
    assert cli.run(["verify", "x", "--epochs", "many"]) == 1
    assert "invalid int value" in capsys.readouterr().err


def test_another_thread_count_is_named_as_the_likely_cause() -> None:
    same = {
        "weights": "a", "predictions": "b", "metrics": [], "train": 0, "val": 0, "test": 0,
        "split_sha256": "c", "config": {"deterministic": True},
        "environment": {"device_name": "x", "threads": 2, "torch": "2"},
    }  # fmt: skip
    other = {**same, "weights": "z", "environment": {**same["environment"], "threads": 1}}  # type: ignore[dict-item]
    assert verify.compare(same, same) == []
    assert verify.compare(same, other)[-1] == "likely cause: another threads"
