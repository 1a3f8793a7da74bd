"""`tinylab verify` notices a sabotaged resume, and names what may have caused a difference.

That it says identical where that is so: experiment/test_user_parts.py.
"""

import dataclasses
import random
import sys
from pathlib import Path

import numpy as np
import pytest

from run_folders import config, finished_result
from tinylab import cli
from tinylab.commands import verify
from tinylab.commands.verify import Outcome
from tinylab.errors import UserError
from tinylab.store.predictions import Predictions
from tinylab.store.result import Result, parse

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


def outcome(threads: int, weights: str = "a", deterministic: bool = True) -> Outcome:
    values = finished_result(config(deterministic=deterministic)) | {"weights_sha256": weights}
    values["environment"] |= {"threads": threads}
    result = parse(values)
    assert isinstance(result, Result)
    return Outcome(result, Predictions(*[np.arange(3)] * 4), [{"epoch": 1}])


def test_the_likely_cause_of_a_difference_is_named() -> None:
    assert verify.compare(outcome(2), outcome(2)) == verify.compare(outcome(2), outcome(1)) == []
    differences = verify.compare(outcome(2), outcome(1, "z"))
    assert differences == ["weights: a against z", "likely cause: different threads"]
    [_, cause] = verify.compare(outcome(2, "a", deterministic=False), outcome(2, "z"))
    assert cause == "likely cause: deterministic=false"


def test_predictions_and_curves_must_be_equal_too() -> None:
    for change in (
        {"predictions": Predictions(*[np.arange(3)] * 3, np.zeros(3))},
        {"metrics": [{"epoch": 2}]},
    ):
        [line, _] = verify.compare(outcome(2), dataclasses.replace(outcome(2), **change))  # type: ignore[arg-type]
        assert line.startswith(f"{next(iter(change))}: ")
