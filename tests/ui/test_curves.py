"""What is said of a learning curve, and that noise alone makes nothing be said."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from run_folders import finished
from tinylab.store.folder import RunFolder
from tinylab.ui.curves import reading

Rows = list[Mapping[str, object]]


def history(val_loss: list[float], train_loss: list[float] | None = None) -> Rows:
    fitted = train_loss or [1 / (epoch + 1) for epoch in range(len(val_loss))]
    return [
        {"epoch": epoch, "val_loss": val, "train_loss": train, "train_accuracy": 1 - train / 10}
        for epoch, (val, train) in enumerate(zip(val_loss, fitted, strict=True), start=1)
    ]


def test_overfitting_is_said_with_the_best_epoch_and_the_training_accuracy() -> None:
    rows = history([1.0, 0.7, 0.5, 0.45, 0.5, 0.56, 0.62, 0.68, 0.75])
    rows[-1] = {**rows[-1], "train_accuracy": 1.0}
    assert reading(rows) == (
        "validation loss was best at epoch 4 (0.45) and has risen to 0.75 since, while training "
        "accuracy reached 100%: overfitting"
    )


@pytest.mark.costly
def test_the_last_lines_on_the_screen_have_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tinylab.experiment.present import _say_end

    files = RunFolder(finished(tmp_path))
    result = files.result()
    assert result is not None
    rows = history([1.0, 0.7, 0.5, 0.45, 0.5, 0.56, 0.62, 0.68, 0.75])
    files.metrics_file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    _say_end(files.config(), files, result)
    lines = capsys.readouterr().out.splitlines()
    [first] = [each for each in lines if each.startswith("fit ")]
    assert first.startswith("fit     validation loss was best at epoch 4 (0.45)")
    rest = lines[lines.index(first) + 1]
    assert rest.endswith("overfitting")
    assert max(len(first), len(rest)) <= 100


def test_an_accuracy_below_100_percent_is_not_rounded_up_to_it() -> None:
    rows = history([1.0, 0.7, 0.5, 0.45, 0.5, 0.56, 0.62, 0.68, 0.75])
    rows[-1] = {**rows[-1], "train_accuracy": 0.99999}
    assert "reached 99.9%" in (reading(rows) or "")


def test_a_loss_that_still_falls_is_said() -> None:
    result = reading(history([2.0, 1.8, 1.6, 1.4, 1.2, 1.0, 0.8, 0.6]))
    assert result == (
        "validation loss was still falling at the last epoch (0.6): more epochs may lower it "
        "further"
    )


@pytest.mark.parametrize(
    "rows",
    [
        [],
        history([1.0, 0.2, 0.9, 1.2, 1.4, 1.6]),  # too few epochs
        history([1.0, 0.6, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),  # it has settled
        history([1.0, 0.6, 0.5, 0.51, 0.52, 0.53, 0.53, 0.54]),  # risen by 6%
        history([1.0, 0.6, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0], [1.0 + k for k in range(8)]),  # diverging
        history([1.0, 0.6, 0.5, math.nan, 0.7, 0.8, 0.9, 1.0]),
        [{**row, "val_loss": None} for row in history([1.0] * 9)],
        [{"epoch": epoch, "train_loss": 1.0} for epoch in range(9)],
    ],
)
def test_nothing_is_said_where_nothing_is_to_be_said(rows: Rows) -> None:
    assert reading(rows) is None


@pytest.mark.parametrize("spread", [0.01, 0.05, 0.2])
@pytest.mark.parametrize("num", [8, 20, 60])
def test_noise_on_a_settled_curve_is_hardly_ever_spoken_of(spread: float, num: int) -> None:
    draws = np.random.default_rng(0).normal(1, spread, size=(500, num))
    said = [reading(history(np.maximum(draw, 0.01).tolist())) for draw in draws]
    assert np.mean([each is not None for each in said]) < 0.03


STEADY = st.floats(0.01, 3).flatmap(
    lambda end: st.lists(st.floats(end, end * 1.09), min_size=7, max_size=30)
)


@given(STEADY)
def test_whatever_a_loss_does_within_9_percent_is_no_news(losses: list[float]) -> None:
    assert reading(history(losses)) is None


@given(st.integers(2, 20), st.integers(5, 20), st.floats(0.1, 5))
def test_a_clear_rise_is_always_overfitting_whatever_the_unit(
    falling: int, rising: int, unit: float
) -> None:
    losses = [unit * (2 - k / falling) for k in range(falling + 1)]
    losses += [unit * (1 + 0.2 * k) for k in range(1, rising + 1)]
    result = reading(history(losses)) or ""
    assert result.startswith(f"validation loss was best at epoch {falling + 1} ")
    assert result.endswith("overfitting")
