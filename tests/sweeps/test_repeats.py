"""Searches over seeds: every setting is repeated, and no setting ranks by the luck of one seed."""

import itertools
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import fmean, median
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compare_kit import config, write_run
from search_kit import AXES, EPOCHS, curve, drive, finish, make_plan, states, trials
from tinylab import cli
from tinylab.config.identity import run_id
from tinylab.config.metrics import NOT_FOR_SELECTION
from tinylab.store.collect import collect
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps import leaderboard
from tinylab.sweeps.combinations import repeats_in_order
from tinylab.sweeps.job import Job
from tinylab.sweeps.pruning import Others, is_hopeless, is_rung
from tinylab.sweeps.search import Search
from tinylab.sweeps.trials import Repeat, Rules, Trial, end_repeat, next_repeat
from tinylab.system import files

SEEDS = ({"seed": "0"}, {"seed": "1"}, {"seed": "2"})
PRUNES = ("none", "median", "halving")


@pytest.fixture
def _without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes 10 ms a flush; that files are whole is tested elsewhere."""
    monkeypatch.setattr(files, "_flush", lambda path: None)


def repeated(outputs: Path, **values: Any) -> Search:
    return make_plan(outputs, axes=AXES[:1], repeats=SEEDS, **{"trials": 12, **values})


def mean(trial: Trial) -> float:
    return fmean(max(curve(each.job)) for each in trial.repeats)


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@pytest.mark.parametrize("prune", PRUNES)
def test_no_setting_ranks_by_one_seed(prune: str, tmp_path: Path) -> None:
    plan = finish(repeated(tmp_path, prune=prune))
    assert len(plan.trials) == 12, "trials count settings"
    assert len(trials(tmp_path)) == 36
    ended = [trial for trial in plan.trials if trial.state == "finished"]
    assert [trial.value for trial in ended] == [mean(trial) for trial in ended]
    known = {t.number: t.value for t in ended[0].asked.study.trials if t.state.name == "COMPLETE"}
    assert sorted(known.values()) == sorted(map(mean, ended)), "the search learns from the means"
    table = leaderboard.rows_of_search(plan.trials)
    ranked = sorted(ended, key=mean, reverse=True)
    assert [row["optim.lr"] for row in table[: len(ended)]] == [
        t.varied["optim.lr"] for t in ranked
    ]
    for row, trial in zip(table, ranked, strict=False):
        assert row["runs"] == 3
        assert row["val_accuracy"] == pytest.approx(mean(trial))
        assert row["val_accuracy_low"] < row["val_accuracy"] < row["val_accuracy_high"]
    for row in table[len(ended) :]:
        assert row["state"] != "finished"
        assert "val_accuracy" not in row, "no partial mean"


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_the_luck_of_a_seed_would_rank_otherwise(tmp_path: Path) -> None:
    """So that the test above can fail."""
    plan = finish(repeated(tmp_path, search="random"))
    ended = [trial for trial in plan.trials if trial.state == "finished"]
    by_mean = sorted(ended, key=mean)
    assert sorted(ended, key=lambda trial: max(max(curve(e.job)) for e in trial.repeats)) != by_mean
    assert sorted(ended, key=lambda trial: max(curve(trial.repeats[0].job))) != by_mean


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@given(
    prune=st.sampled_from(PRUNES),
    kills=st.lists(st.integers(0, 120), max_size=3),
    retries=st.booleans(),
)
@settings(max_examples=12)
def test_a_repeated_search_killed_at_any_moment_makes_the_trials_of_one_in_peace(
    prune: str, kills: list[int], retries: bool, tmp_path_factory: pytest.TempPathFactory
) -> None:
    peace, storm = tmp_path_factory.mktemp("peace"), tmp_path_factory.mktemp("storm")
    how: dict[str, Any] = {"prune": prune, "trials": 8, "retry_failed": retries}
    finish(repeated(peace, **how))
    for kill in kills:
        for _ in itertools.islice(drive(repeated(storm, **how)), kill):
            pass
    finish(repeated(storm, **how))
    assert trials(storm) == trials(peace)


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@pytest.mark.parametrize("prune", PRUNES)
def test_parallel_repeats_are_run_once_each(prune: str, tmp_path: Path) -> None:
    trained: list[tuple[str, int]] = []
    plan = finish(repeated(tmp_path, prune=prune), jobs=4, order=3, trained=trained)
    assert len(trained) == len(set(trained))
    assert {trial.state for trial in plan.trials} <= {"finished", "pruned", "failed"}
    assert "running" not in states(tmp_path)
    if prune != "none":
        return
    assert all(e.value is not None for t in plan.trials if t.state == "finished" for e in t.repeats)


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_a_hopeless_setting_is_given_up_after_its_first_seeds(tmp_path: Path) -> None:
    """By the plain definition: the means over the same repeats, after the same epoch."""
    plan = repeated(tmp_path, prune="median", search="random", trials=30)
    given_up_later = 0
    for _ in drive(plan):
        pass
    finished: list[Trial] = []
    for trial in plan.trials:
        num = sum(each.state == "finished" for each in trial.repeats)
        if trial.state == "finished" and len(finished) >= 5:
            for seeds in (1, 2):
                own = fmean(max(curve(each.job)) for each in trial.repeats[:seeds])
                others = [
                    fmean(max(curve(each.job)) for each in other.repeats[:seeds])
                    for other in finished
                ]
                assert own >= median(others)
        if trial.state == "pruned":
            given_up_later += num > 0
        if trial.state == "finished":
            finished.append(trial)
    assert given_up_later > 0
    assert sum(trial.state == "pruned" for trial in plan.trials) > 5


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_the_finished_seeds_of_a_pruned_setting_are_left_out_of_comparisons(
    tmp_path: Path,
) -> None:
    plan = finish(repeated(tmp_path, prune="median", search="random", trials=20))
    partial = {
        each.run_id
        for trial in plan.trials
        if trial.state == "pruned"
        for each in trial.repeats
        if each.state == "finished"
    }
    assert partial
    [folder] = (tmp_path / "sweeps").iterdir()
    runs, skipped = collect([folder])
    whole = {e.run_id for t in plan.trials if t.state == "finished" for e in t.repeats}
    assert {run.name for run in runs} == whole
    reasons = {each.path.name: each.reason for each in skipped}
    assert {reasons[name] for name in partial} == {"repeat of a setting that is pruned"}


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_a_search_of_before_repeats_goes_on(tmp_path: Path) -> None:
    plan = finish(make_plan(tmp_path, trials=3))
    assert all("setting" not in row for row in trials(tmp_path))
    [path] = (tmp_path / "sweeps").glob("*/sweep.json")
    assert not {"repeats", "exclude", "zip"} & json.loads(path.read_text())["search"].keys()
    again = make_plan(tmp_path, trials=4, retry_failed=False)
    assert again.num_ended == 3
    job = again.next_job()
    assert job is not None
    assert run_id(job.config) not in {run_id(each.config) for each in plan.jobs}


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@pytest.mark.parametrize("metric", ["val_accuracy", "val_loss"])
def test_the_best_so_far_is_the_first_of_the_leaderboard(metric: str, tmp_path: Path) -> None:
    plan = repeated(tmp_path, metric=metric, prune="median")
    said = set()
    for _ in drive(plan):
        if not any(trial.state == "finished" for trial in plan.trials):
            assert plan.best == ""
            continue
        said.add(plan.best)
        first = leaderboard.rows_of_search(plan.trials)[0]
        assert plan.best.endswith(f"  optim.lr={first['optim.lr']}")
        assert "(95% CI " in plan.best
        assert ", 3 runs)" in plan.best
    assert len(said) > 1
    assert repeated(tmp_path, metric=metric, prune="median").best == plan.best


# ---------------------------------------------------------------- the judge


def trial_of(number: int, **values: Any) -> Trial:
    job: Any = SimpleNamespace(config=SimpleNamespace(train=SimpleNamespace(epochs=1)))
    asked: Any = SimpleNamespace(report=lambda value, step: None)
    return Trial(number, {}, tuple(Repeat(lambda: job) for _ in range(3)), asked, **values)


@pytest.mark.parametrize(("value", "state"), [(0.1, "pruned"), (0.6, "running")])
def test_a_setting_is_given_up_between_its_seeds(value: float, state: str) -> None:
    rules = Rules("val_accuracy", "median", stride=1)
    others = [trial_of(number, state="finished", reported={1: 0.5}) for number in range(5)]
    trial = trial_of(5)
    first, *later = trial.repeats
    assert next_repeat(trial, rules) is first
    first.state = "running"
    assert next_repeat(trial, rules) is None, "the first one decides"
    end_repeat(trial, first, "finished", value, rules, [*others, trial])
    assert trial.state == state
    assert trial.value is None
    waits = "pruned" if state == "pruned" else "waiting"
    assert [each.state for each in later] == [waits, waits]
    assert next_repeat(trial, rules) is (None if state == "pruned" else later[0])


def test_equal_steps_are_compared_and_no_others() -> None:
    own = {1: 0.9, 2: 0.9, EPOCHS + 2: 0.3}
    better = [{EPOCHS + 2: 0.5}] * 5
    other_steps = [{2: 0.95, EPOCHS: 0.95, 2 * EPOCHS: 0.95}] * 9
    step = EPOCHS + 2
    assert is_hopeless("median", own, step, EPOCHS, Others(better, []))
    assert not is_hopeless("median", own, step, EPOCHS, Others(better[:4], []))
    assert not is_hopeless("median", own, step, EPOCHS, Others(other_steps, other_steps))
    assert not is_hopeless("none", own, step, EPOCHS, Others(better, better))


def test_a_lucky_first_seed_saves_no_later_one() -> None:
    """The best epoch of the first repeat says nothing in the second."""
    own = {EPOCHS: 0.99, EPOCHS + 1: 0.2, EPOCHS + 2: 0.2}
    assert is_hopeless("median", own, EPOCHS + 2, EPOCHS, Others([{EPOCHS + 2: 0.5}] * 5, []))


def test_settings_of_one_epoch_are_judged_between_their_seeds() -> None:
    assert is_hopeless("median", {1: 0.1}, 1, 1, Others([{1: 0.5}] * 5, []))


def test_rungs_are_powers_of_three() -> None:
    assert [step for step in range(1, 100) if is_rung(step)] == [1, 3, 9, 27, 81]


def test_halving_keeps_the_best_third_at_a_rung() -> None:
    values = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    kept = [
        value
        for value in values
        if not is_hopeless(
            "halving", {3: value}, 3, 9, Others([], [{3: each} for each in values if each != value])
        )
    ]
    assert kept == [0.5, 0.6]


# ---------------------------------------------------------------- the order of repeats


def seeds_of(*sizes: int) -> list[list[dict[str, str]]]:
    return [[{f"axis{n}": str(v)} for v in range(size)] for n, size in enumerate(sizes)]


@given(st.lists(st.integers(1, 5), min_size=0, max_size=3))
def test_every_combination_of_seeds_comes_once(sizes: list[int]) -> None:
    ordered = repeats_in_order(seeds_of(*sizes))
    axes = [range(size) for size in sizes]
    listed = [tuple(each.values()) for each in ordered]
    assert sorted(listed) == sorted(tuple(map(str, each)) for each in itertools.product(*axes))


def test_the_first_repeats_share_neither_split_nor_seed() -> None:
    ordered = repeats_in_order(seeds_of(5, 3))
    splits, seeds = zip(*(each.values() for each in ordered), strict=True)
    assert len(set(splits[:5])) == 5
    assert len(set(seeds[:3])) == len(set(seeds[3:6])) == 3
    assert repeats_in_order(seeds_of(3)) == tuple(seeds_of(3)[0])


# ---------------------------------------------------------------- through the command line


@pytest.mark.costly
def test_a_search_over_seeds_says_means_with_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command = [
        "train", "-m", "sweep.search=tpe", "sweep.trials=3", "name=x", "model=mlp", "jobs=1",
        "optim.lr=tag(log,interval(1e-3,1e-1))", "seed=0,1,2", "train.epochs=1",
        "train.batch_size=512", "model.hidden=4", "threads=1",
    ]  # fmt: skip
    assert cli.run(command) == 0
    said = capsys.readouterr().out
    assert "search of 3 trials by tpe over optim.lr, each repeated 3 times" in said
    table = said.split("\n\n")[-2].splitlines()
    assert table[0].split()[:3] == ["optim.lr", "state", "runs"]
    assert "95% CI" in table[0]
    assert [line.split()[1:3] for line in table[1:4]] == [["finished", "3"]] * 3
    before = trials(Path("outputs"))
    assert cli.run(command) == 0
    assert "9 runs already ended" in capsys.readouterr().out
    assert trials(Path("outputs")) == before


def test_a_job_of_a_stranger_does_not_end_up_in_a_trial(tmp_path: Path) -> None:
    plan = repeated(tmp_path)
    job = plan.next_job()
    assert isinstance(job, Job)
    [path] = (tmp_path / "sweeps").glob("*/sweep.json")
    state = json.loads(path.read_text())
    state["jobs"][1]["overrides"]["seed"] = "7"
    path.write_text(json.dumps(state))
    with pytest.raises(Exception, match="not written by tinylab"):
        repeated(tmp_path)


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_searches_are_compared_at_equal_effort(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    finish(repeated(tmp_path, search="random", trials=9))
    [folder] = (tmp_path / "sweeps").iterdir()
    assert cli.run(["compare", str(folder)]) == 0
    assert "Tuning curves: best validation accuracy after k trials" in capsys.readouterr().out
    assert cli.run(["report", str(folder)]) == 0
    assert "<h2>Tuning curve</h2>" in (folder / "report.html").read_text()
    capsys.readouterr()
    assert cli.run(["compare", str(folder), "--format", "json"]) == 0
    [curve] = json.loads(capsys.readouterr().out)["tuning_curves"]
    assert [point["k"] for point in curve["points"]] == list(range(1, 10))


def made(outputs: Path, values: Sequence[float]) -> Trial:
    """A finished trial with a repeat for each validation accuracy."""
    repeats = []
    for seed, value in enumerate(values):
        write_run(outputs, 50, value, seed=seed)
        job = Job([], {"seed": str(seed)}, config(seed=seed, outputs=str(outputs)))
        repeats.append(Repeat(partial(lambda job: job, job), "finished", value))
    asked: Any = None
    return Trial(0, {"optim.lr": "0.1"}, tuple(repeats), asked, "finished")


def test_means_stay_in_the_range_of_the_metric_and_integers_stay_integers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = made(tmp_path, (0.2, 0.9))
    [row] = leaderboard.rows_of_search([trial])
    assert (row["val_accuracy_low"], row["val_accuracy_high"]) == (0.0, 1.0)
    assert row["parameters"] == 1234
    sweep = SweepFolder(tmp_path / "sweep")
    sweep.path.mkdir()
    leaderboard.write(sweep, [row])
    assert "| 1234 |" in sweep.markdown_file.read_text()
    leaderboard.show_means([row], [each.job for each in trial.repeats])
    said = capsys.readouterr().out
    assert "test acc *" in said
    assert "CI: variation over seeds" in said
    assert NOT_FOR_SELECTION in said


def test_equal_repeats_have_no_interval(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = made(tmp_path, (0.5, 0.5))
    leaderboard.show_means(leaderboard.rows_of_search([trial]), [e.job for e in trial.repeats])
    assert "50.00%               -" in capsys.readouterr().out
