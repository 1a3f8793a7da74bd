"""Tuning curves against a plain enumeration, and their intervals against simulation."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinylab.comparison.tuning import (
    LEAST,
    Point,
    TuningCurve,
    expected_best,
    of_sweeps,
    sections,
    span,
)
from tinylab.ui.tables import on_screen


def curve(values: Sequence[float]) -> list[Point]:
    return TuningCurve("search", "val_accuracy", tuple(values)).points()


ACCURACIES = st.lists(st.floats(0, 1), min_size=1, max_size=9)


@given(ACCURACIES, st.data())
def test_the_expected_best_is_the_mean_over_all_draws(
    values: list[float], data: st.DataObject
) -> None:
    k = data.draw(st.integers(1, len(values)))
    draws = [max(draw) for draw in itertools.combinations(values, k)]
    assert expected_best(np.sort(values), k) == pytest.approx(np.mean(draws))


@pytest.mark.costly
@given(ACCURACIES)
def test_more_trials_are_never_worse(values: list[float]) -> None:
    points = curve(values)
    assert points[0].k == 1
    assert points[0].expected == pytest.approx(np.mean(values))
    assert points[-1].k == len(values)
    assert points[-1].expected == pytest.approx(max(values))
    for name in ("expected", "median"):
        results = [getattr(point, name) for point in points]
        assert all(a <= b + 1e-12 for a, b in itertools.pairwise(results))


@pytest.mark.parametrize("k", [1, 3, 8, 20])
def test_the_interval_holds_the_median_best_in_95_of_100_searches(k: int) -> None:
    rng = np.random.default_rng(k)
    truth = 0.5 ** (1 / k)  # of uniform trials
    held = 0
    for _ in range(400):
        values = tuple(rng.random(40).tolist())
        point = TuningCurve("search", "val_accuracy", values).point(k)
        held += (point.low or 0) <= truth <= (1 if point.high is None else point.high)
    assert held >= 0.93 * 400


@pytest.mark.costly
def test_ten_thousand_trials_make_a_hundred_points() -> None:
    points = curve(np.random.default_rng(0).random(10_000).tolist())
    assert len(points) <= 100
    assert points[-1].k == 10_000


def write_search(folder: Path, rows: list[dict[str, Any]], metric: str = "val_accuracy") -> Path:
    folder.mkdir(parents=True)
    jobs = [{"run_id": f"r{n}", "overrides": {}, **row} for n, row in enumerate(rows)]
    state = {"arguments": [], "search": {"metric": metric}, "jobs": jobs}
    (folder / "sweep.json").write_text(json.dumps(state))
    return folder


def finished(values: list[float]) -> list[dict[str, Any]]:
    return [{"number": n, "state": "finished", "value": v} for n, v in enumerate(values)]


def test_trials_are_means_over_repeats_and_pruned_ones_are_the_worst(tmp_path: Path) -> None:
    rows = [
        {"number": n, "state": "finished", "value": value + shift, "setting": "finished"}
        for n, value in enumerate([0.5, 0.6, 0.7, 0.8, 0.9])
        for shift in (-0.05, 0.05)
    ]
    pruned = [
        {"number": 5, "state": "finished", "value": 0.99, "setting": "pruned"},
        {"number": 5, "state": "pruned", "value": None, "setting": "pruned"},
        {"number": 6, "state": "running", "value": None, "setting": "running"},
    ]
    [result] = of_sweeps([write_search(tmp_path / "a", [*rows, *pruned])])
    assert len(result.values) == 6
    assert result.point(1).expected == pytest.approx(np.mean([0.5, 0.6, 0.7, 0.8, 0.9, 0.5]))
    assert result.points()[-1].expected == pytest.approx(0.9)


def test_of_losses_the_lowest_is_the_best(tmp_path: Path) -> None:
    rows = finished([0.5, 0.4, 0.3, 0.2, 0.1])
    [result] = of_sweeps([write_search(tmp_path / "a", rows, "val_loss")])
    assert result.points()[-1].expected == pytest.approx(0.1)
    assert result.point(1).expected == pytest.approx(0.3)
    low, high = result.point(1).low, result.point(1).high
    assert low is None or high is None or low <= result.point(1).median <= high


def test_what_is_no_search_has_no_curve(tmp_path: Path) -> None:
    few = write_search(tmp_path / "few", finished([0.5] * (LEAST - 1)))
    grid = write_search(tmp_path / "grid", finished([0.5] * 9))
    state = json.loads((grid / "sweep.json").read_text())
    del state["search"]
    (grid / "sweep.json").write_text(json.dumps(state))
    assert of_sweeps([tmp_path, few, grid, tmp_path / "absent"]) == []


def test_searches_stand_beside_one_another_at_each_k(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    paths = [
        write_search(tmp_path / name, finished(rng.random(size).tolist()))
        for name, size in (("wide", 20), ("deep", 6))
    ]
    lines = on_screen(sections(of_sweeps(paths)))
    rows = [line.split()[:2] for line in lines if "%" in line and line.split()[0].isdigit()]
    assert rows == [
        ["1", "wide"], ["1", "deep"], ["2", "wide"], ["2", "deep"], ["4", "wide"], ["4", "deep"],
        ["6", "wide"], ["6", "deep"], ["8", "wide"], ["16", "wide"], ["20", "wide"],
    ]  # fmt: skip
    assert lines[0] == "Tuning curves: best validation accuracy after k trials"


def test_an_interval_without_upper_end_says_so() -> None:
    last = curve([0.1, 0.2, 0.3, 0.4, 0.5])[-1]
    assert last.high is None
    assert span(last, "{:.1f}".format).endswith(" or above")
