"""Searches: what is proposed, what is refused, and that a kill at any moment changes nothing."""

import itertools
import json
import math
import os
import signal
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_kit import (
    AXES,
    EPOCHS,
    FINITE,
    curve,
    drive,
    finish,
    make_plan,
    states,
    trials,
    write_result,
)
from server_kit import Server
from tinylab import cli
from tinylab import sweeps as sweep
from tinylab.config import compose
from tinylab.config.groups import choices
from tinylab.config.identity import run_id
from tinylab.config.metrics import CHOOSABLE
from tinylab.config.schema import SweepConfig
from tinylab.errors import UserError
from tinylab.sweeps import leaderboard, search
from tinylab.sweeps.grid import expand
from tinylab.sweeps.job import Composer, Job
from tinylab.sweeps.proposals import Study, dimension
from tinylab.sweeps.search import Search
from tinylab.sweeps.space import Axis, Interval, read
from tinylab.system import files

pytestmark = pytest.mark.costly


@pytest.fixture
def _without_flushing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk takes 10 ms a flush; that files are whole is tested elsewhere."""
    monkeypatch.setattr(files, "_flush", lambda path: None)


# ---------------------------------------------------------------- resuming


@pytest.fixture(scope="module")
def in_peace(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[dict[str, Any]]]:
    """The trials of a search without a kill, made once for each kind and pruning."""

    @cache
    def trials_of(kind: str, prune: str) -> list[dict[str, Any]]:
        outputs = tmp_path_factory.mktemp("peace")
        finish(make_plan(outputs, search=kind, prune=prune))
        return trials(outputs)

    return trials_of


KINDS = st.sampled_from(["tpe", "tpe", "random"])
PRUNES = st.sampled_from(["none", "median", "halving"])


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@given(kind=KINDS, prune=PRUNES, kills=st.lists(st.integers(0, 80), max_size=4))
@settings(max_examples=12)
def test_a_search_killed_at_any_moment_makes_the_trials_of_one_in_peace(
    kind: str, prune: str, kills: list[int],
    in_peace: Callable[..., list[dict[str, Any]]], tmp_path_factory: pytest.TempPathFactory,
) -> None:  # fmt: skip
    outputs = tmp_path_factory.mktemp("storm")
    for kill in kills:
        for _ in itertools.islice(drive(make_plan(outputs, search=kind, prune=prune)), kill):
            pass
    finish(make_plan(outputs, search=kind, prune=prune))
    assert trials(outputs) == in_peace(kind, prune)


@pytest.mark.costly
def test_the_stand_in_shows_all_that_can_happen(
    in_peace: Callable[..., list[dict[str, Any]]],
) -> None:
    result = {trial["state"] for prune in ("none", "median") for trial in in_peace("tpe", prune)}
    assert result == {"finished", "pruned", "failed"}


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
@given(prune=PRUNES, kills=st.lists(st.integers(0, 60), max_size=3), order=st.integers(0, 99))
@settings(max_examples=8)
def test_parallel_trials_are_as_many_as_asked_and_none_is_trained_twice(
    prune: str, kills: list[int], order: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outputs = tmp_path_factory.mktemp("parallel")
    trained: list[tuple[str, int]] = []
    for number, kill in enumerate(kills):
        plan = make_plan(outputs, prune=prune, retry_failed=False)
        for _ in itertools.islice(drive(plan, 3, order + number, trained), kill):
            pass
    finish(make_plan(outputs, prune=prune, retry_failed=False), jobs=3, trained=trained)
    assert len(trials(outputs)) == len({trial["run_id"] for trial in trials(outputs)}) == 16
    assert "running" not in states(outputs)
    # A run that failed before the kill was noted is tried once more.
    again = len(trained) - len(set(trained))
    assert again <= len(kills)


def test_finished_trials_are_reported_and_not_run(tmp_path: Path) -> None:
    finish(make_plan(tmp_path))
    plan = make_plan(tmp_path, retry_failed=False)
    assert plan.num_ended == 16
    assert plan.next_job() is None


@pytest.mark.costly
def test_more_trials_go_on_with_the_search(tmp_path: Path) -> None:
    finish(make_plan(tmp_path / "some", trials=12))
    finish(make_plan(tmp_path / "all", trials=16))
    assert trials(tmp_path / "some") == trials(tmp_path / "all")[:12]
    plan = finish(make_plan(tmp_path / "some", trials=16))
    assert trials(tmp_path / "some") == trials(tmp_path / "all")
    fewer = make_plan(tmp_path / "some", trials=4, retry_failed=False)
    assert fewer.next_job() is None
    assert len(fewer.jobs) == len(plan.jobs), "what was found stays in the table"


@pytest.mark.costly
def test_failed_trials_are_run_again_unless_that_is_unwanted(tmp_path: Path) -> None:
    finish(make_plan(tmp_path, search="random"))
    failed = [trial["run_id"] for trial in trials(tmp_path) if trial["state"] == "failed"]
    assert failed
    assert make_plan(tmp_path, search="random", retry_failed=False).next_job() is None
    plan = make_plan(tmp_path, search="random")
    waiting = [run_id(job.config) for job in iter(plan.next_job, None)]
    assert waiting == failed


def test_a_removed_run_is_run_again_with_its_values(tmp_path: Path) -> None:
    plan = finish(make_plan(tmp_path, trials=5))
    lost = plan.jobs[2]
    for path in lost.folder.iterdir():
        path.unlink()
    again = make_plan(tmp_path, trials=5).next_job()
    assert again is not None
    assert again.varied == lost.varied


def test_a_result_of_other_code_begins_the_search_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = finish(make_plan(tmp_path, trials=5))
    write_result(plan.jobs[3], environment={"code_sha256": "another"})
    assert make_plan(tmp_path, trials=5).num_ended == 0
    assert "code has changed since: the search starts over" in capsys.readouterr().out


def test_a_name_is_for_one_search(tmp_path: Path, composer: Composer) -> None:
    def plan(*arguments: str) -> Search:
        typed = ["sweep.search=random", "sweep.trials=3", "name=mine", *arguments]
        space = read([*typed, f"outputs={tmp_path}"], composer)
        checked = search.check(space, composer)
        return Search(space, composer, search.folder_of(space, checked[0].config), checked, typed)

    plan("model.filters=1,2,3")
    plan("model.filters=2,3,1", "sweep.trials=2", "jobs=1")  # the same search
    others = (["model.filters=1,2,3,4"], ["model.filters=1,2,3", "seed=0,1"])
    for other in others:
        with pytest.raises(UserError, match=r"name=mine: .*mine holds another sweep"):
            plan(*other)
    assert plan("model.filters=1,2,3,4", "fresh=true").num_ended == 0


# ---------------------------------------------------------------- proposals


def labels(plan: Search) -> list[str]:
    return [job.label for job in plan.jobs]


@pytest.mark.costly
def test_what_is_proposed_depends_on_the_seed_and_not_on_the_order_of_keys(tmp_path: Path) -> None:
    def proposed(name: str, **values: Any) -> list[dict[str, str]]:
        plan = finish(make_plan(tmp_path / name, **values))
        return [job.varied for job in plan.jobs]

    assert proposed("a") == proposed("b", axes=AXES[::-1])
    assert proposed("a") != proposed("c", seed=1)


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_tpe_searches_where_it_is_better(tmp_path: Path) -> None:
    def mean_of_last(kind: str) -> float:
        plans = [finish(make_plan(tmp_path / f"{kind}{n}", search=kind, trials=30, seed=n))
                 for n in range(2)]  # fmt: skip
        return float(np.mean([max(curve(job)) for plan in plans for job in plan.jobs[15:]]))

    assert mean_of_last("tpe") > mean_of_last("random") + 0.05


def test_tpe_keeps_away_from_what_fails() -> None:
    axis = Axis("x", ("0.0", "1.0"), True, Interval(0.0, 1.0, log=False))
    study = Study([axis], SweepConfig(search="tpe", trials=9))
    for number in range(20):
        trial = study.begin({"x": str(number / 20)})
        if number < 14:
            study.give_up(trial)
        else:
            study.finish(trial, 0.5)
    proposed = [float(study.propose(20, attempt)["x"]) for attempt in range(20)]
    assert sum(x > 0.65 for x in proposed) >= 15


@pytest.mark.parametrize("kind", ["random", "tpe"])
def test_a_small_space_is_tried_whole_and_nothing_twice(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = make_plan(tmp_path, axes=FINITE, search=kind, trials=20)
    assert plan.total == 6
    assert len(set(labels(finish(plan)))) == 6


def test_what_does_not_go_together_is_passed_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def forbidden(varied: dict[str, str]) -> bool:
        return varied == {"model.hidden": "32", "model.filters": "4"}

    plan = finish(make_plan(tmp_path, axes=FINITE, forbidden=forbidden, trials=6))
    assert len(set(labels(plan))) == 5
    assert "model.hidden=32 model.filters=4" not in labels(plan)
    out = capsys.readouterr().out
    assert out.count("model.hidden=32 model.filters=4 is skipped: these do not go together") == 1
    assert "no combinations are left: 5 trials in total" in out


@pytest.mark.parametrize(
    "interval",
    [
        Interval(1e-4, 1e-1, log=True), Interval(0.0, 0.5, log=False), Interval(8, 64, log=False),
        Interval(1, 1000, log=True), Interval(0.12345678, 0.12345679, log=False),
        Interval(-3.0, 3.0, log=False),
    ],
)  # fmt: skip
def test_a_proposed_number_lies_in_its_interval_and_reads_back(interval: Interval) -> None:
    axis = Axis("x", (str(interval.low), str(interval.high)), True, interval)
    study = Study([axis], SweepConfig(search="random", trials=9))
    scale = dimension(axis)
    texts = {study.propose(0, attempt)["x"] for attempt in range(50)}
    for text in texts:
        assert interval.low <= scale.value(text) <= interval.high
        assert scale.text(scale.value(text)) == text
        assert isinstance(scale.value(text), type(interval.low))
        in_range = interval.low in (1e-4, 0.0, -3.0)
        assert not in_range or len(text.lstrip("-0.").partition("e")[0].replace(".", "")) <= 6
    assert len(texts) > 20 or interval.low == 0.12345678


# ---------------------------------------------------------------- pruning


def judged(outputs: Path, prune: str) -> Iterator[tuple[Search, Job, int, bool]]:
    """Drive a search and yield each decision on a trial that is not at its end."""
    plan = make_plan(outputs, prune=prune, trials=30, search="random")
    answers: list[tuple[Search, Job, int, bool]] = []
    goes_on = plan.goes_on

    def spy(job: Job, row: dict[str, float | None]) -> bool:
        answer = goes_on(job, row)
        answers.append((plan, job, int(row["epoch"] or 0), answer))
        return answer

    plan.goes_on = spy  # type: ignore[method-assign]
    for _ in drive(plan):
        yield from answers
        answers.clear()


@pytest.mark.usefixtures("_without_flushing")
def test_median_pruning_is_its_plain_definition(tmp_path: Path) -> None:
    pruned = 0
    for plan, job, epoch, answer in judged(tmp_path, "median"):
        finished = [
            curve(trial.repeats[0].job)[epoch - 1]
            for trial in plan.trials
            if trial.state == "finished"
        ]
        judge = len(finished) >= 5 and 2 <= epoch < EPOCHS
        hopeless = judge and max(curve(job)[:epoch]) < np.median(finished)
        assert answer == (not hopeless)
        pruned += hopeless
    assert pruned > 5


@pytest.mark.usefixtures("_without_flushing")
def test_halving_keeps_the_best_third_of_each_rung(tmp_path: Path) -> None:
    rungs: dict[int, list[float]] = {1: [], 3: []}
    pruned = 0
    for _, job, epoch, answer in judged(tmp_path, "halving"):
        value, hopeless = curve(job)[epoch - 1], False
        if epoch in rungs:
            rungs[epoch].append(value)
            kept = sorted(rungs[epoch], reverse=True)[: max(1, len(rungs[epoch]) // 3)]
            hopeless = value < kept[-1]
        assert answer == (not hopeless)
        pruned += hopeless
    assert pruned > 10


def rows_of(accuracies: list[float]) -> list[dict[str, float]]:
    return [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": -math.log(accuracy)}
        for epoch, accuracy in enumerate(accuracies, start=1)
    ]


def after_others(outputs: Path, prune: str, accuracies: list[float]) -> tuple[Search, Job]:
    """A search in which five trials have had these accuracies, and the job of the next one."""
    plan = make_plan(outputs, prune=prune)
    for _ in range(5):
        job = plan.next_job()
        assert job is not None
        assert all(plan.goes_on(job, row) for row in rows_of(accuracies))
        write_result(job)
        plan.ended(job, "finished")
    job = plan.next_job()
    assert job is not None
    job.folder.mkdir(parents=True)
    return plan, job


def test_nothing_is_pruned_at_its_last_epoch(tmp_path: Path) -> None:
    plan, job = after_others(tmp_path, "median", [0.4, 0.4, 0.4, 0.9])
    assert [plan.goes_on(job, row) for row in rows_of([0.5] * EPOCHS)] == [True] * EPOCHS


def test_an_epoch_that_was_not_reported_is_judged_in_its_turn(tmp_path: Path) -> None:
    """The process was killed between the end of an epoch and the word of it."""
    plan, job = after_others(tmp_path, "halving", [0.5, 0.6, 0.7, 0.8])
    rows = rows_of([0.1, 0.9])
    (job.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert not plan.goes_on(job, rows[1])
    plan.ended(job, "pruned")
    assert trials(tmp_path)[5]["epochs"] == 1, "it was hopeless after the first"
    again = make_plan(tmp_path, prune="halving")
    assert again.trials[5].reported == {1: 0.1}
    assert again.trials[5].asked.study.trials[-1].intermediate_values == {1: 0.1}


def test_a_pruned_trial_has_its_last_metrics_in_the_table(tmp_path: Path) -> None:
    plan = finish(make_plan(tmp_path, prune="halving"))
    for job in plan.jobs:
        if run_id(job.config) not in plan.pruned:
            write_result(job)
    table = leaderboard.rows(plan.jobs, plan.pruned)
    pruned = [row for row in table if row["state"] == "pruned"]
    assert pruned
    for row in pruned:
        [job] = [job for job in plan.jobs if job.folder.name == row["run"]]
        assert row["val_accuracy"] == curve(job)[row["epochs"] - 1]
    first = [row["state"] for row in table].index("pruned")
    assert {row["state"] for row in table[:first]} == {"finished"}


# ---------------------------------------------------------------- the metric


@pytest.mark.costly
@pytest.mark.usefixtures("_without_flushing")
def test_the_loss_can_be_searched_for(tmp_path: Path) -> None:
    plan = finish(make_plan(tmp_path, metric="val_loss", trials=20))
    assert [t["value"] for t in trials(tmp_path)] == [
        None if t.state != "finished" else -math.log(max(curve(t.repeats[0].job)))
        for t in plan.trials
    ]
    by_accuracy = finish(make_plan(tmp_path / "accuracy", trials=20))
    best = [min(abs(math.log10(job.config.optim.lr) + 2) for job in p.jobs)
            for p in (plan, by_accuracy)]  # fmt: skip
    assert max(best) < 0.1, "loss and accuracy are best at the same rate here"


def test_the_table_ranks_by_the_metric_of_the_sweep(tmp_path: Path) -> None:
    def ranked(metric: str) -> list[float]:
        plan = make_plan(tmp_path / metric, axes=FINITE, metric=metric, search="random", trials=3)
        for number, job in enumerate(iter(plan.next_job, None)):
            write_result(job, val={"accuracy": number / 10, "loss": 1 + number})
        return [row["val_loss"] for row in leaderboard.rows(plan.jobs)]

    assert ranked("val_loss") == [1, 2, 3]
    assert ranked("val_accuracy") == [3, 2, 1]


def test_a_table_by_a_metric_that_an_older_run_has_not_ranks_that_run_last(
    tmp_path: Path,
) -> None:
    plan = make_plan(tmp_path, axes=FINITE, metric="val_macro_f1", search="random", trials=3)
    for number, job in enumerate(iter(plan.next_job, None)):
        f1 = {"macro_f1": number / 10, "balanced_accuracy": 0.5} if number else {}
        write_result(job, val={"accuracy": 0.9 - number / 10, "loss": 1.0 + number, **f1})
    assert [row["val_loss"] for row in leaderboard.rows(plan.jobs)] == [3, 2, 1]


@pytest.mark.parametrize("metric", CHOOSABLE)
def test_a_search_goes_the_way_in_which_its_metric_is_better(metric: str) -> None:
    study = Study(FINITE, SweepConfig(search="random", trials=9, metric=metric))
    direction = study._study.direction.name
    assert direction == ("MINIMIZE" if metric == "val_loss" else "MAXIMIZE")


def test_a_search_without_its_metric_in_a_result_says_so(tmp_path: Path) -> None:
    for name, val in (("none", None), ("older", {"accuracy": 0.5, "loss": 1.0})):
        plan = make_plan(tmp_path / name, metric="val_macro_f1")
        job = plan.next_job()
        assert job is not None
        write_result(job, val=val)
        with pytest.raises(
            UserError, match="no val_macro_f1 to search by; re-run it with fresh=true"
        ):
            plan.ended(job, "finished")


@pytest.mark.costly
def test_importance_is_of_the_key_that_matters(tmp_path: Path) -> None:
    axes = [AXES[0], FINITE[1]]
    plan = finish(make_plan(tmp_path, axes=axes, search="random", trials=30))
    fractions = plan.importances()
    assert list(fractions) == ["optim.lr", "model.filters"]
    assert sum(fractions.values()) == pytest.approx(1)
    assert fractions["optim.lr"] > 0.8
    few = finish(make_plan(tmp_path / "few", axes=axes, search="random", trials=5))
    assert few.importances() == {}


# ---------------------------------------------------------------- the space


def test_the_command_line_replaces_the_yaml_key_by_key(composer: Composer) -> None:
    def shown(*arguments: str) -> list[str]:
        return [str(axis) for axis in read(arguments, composer).axes]

    assert shown("sweep=seeds") == ["seed=0,1,2,3,4"]
    assert shown("sweep=seeds", "model=mlp,baseline") == ["seed=0,1,2,3,4", "model=mlp,baseline"]
    assert shown("sweep=seeds", "seed=7,8") == ["seed=7,8"]
    assert shown("sweep=seeds", "seed=7") == []
    assert shown("model=glob(*,exclude=[t*,r*])") == ["model=baseline,mlp"]
    assert shown("optim.lr=interval(1e-3,1)") == ["optim.lr=interval(0.001,1.0)"]
    assert shown("model.hidden=tag(log,int(interval(8,64)))") == [
        "model.hidden=tag(log,interval(8,64))"
    ]


@pytest.mark.parametrize("name", choices("sweep"))
def test_every_sweep_in_conf_can_start(name: str, composer: Composer) -> None:
    jobs = checked([f"sweep={name}"], composer)
    sizes = {"default": 1, "lr": 7, "seeds": 5, "baseline_grid": 54}
    assert len(jobs) == sizes.get(name, len(jobs))


def checked(arguments: list[str], composer: Composer) -> list[Job]:
    """What is composed before the first job starts."""
    space = read(arguments, composer)
    is_grid = space.settings.search == "grid"
    return expand(space, composer) if is_grid else search.check(space, composer)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep.search=tpe"], "sweep.trials=null: expected the number of runs"),
        (["sweep.search=tpe", "sweep.trials=0", "seed=1,2"], "sweep.trials=0: expected null"),
        (["sweep.search=tp", "sweep.trials=9"], "expected one of grid, random, tpe (did you mean"),
        (["sweep.search=tpe", "sweep.trials=9"], "nothing to search over"),
        (["sweep=lr", "sweep.trials=9"], "a grid runs all combinations"),
        (["sweep=seeds", "sweep.prune=median"], "a grid runs all combinations"),
        (["sweep=tpe", "split.val=0"], "sweep.search=tpe with split.val=0"),
        (["sweep=tpe", "model=resnet"], "model.hidden: belongs to"),
        (["sweep=tpe", "optim.lrr=interval(1,2)"], "optim.lrr: unknown key (did you mean"),
        (["sweep=tpe", "optim.lr=interval(-1,1)"], "optim.lr=-1.0: expected a number above 0"),
        (["sweep=tpe", "model.dropout=interval(0,1)"], "model.dropout=1.0: expected 0 to below 1"),
        (["sweep=tpe", "model.hidden=interval(8,64)"], "for integers: int(interval"),
        (["sweep=tpe", "model.hidden=int(interval(64,8))"], "the smaller first"),
        (["sweep=tpe", "optim.lr=interval(1,1)"], "the smaller first"),
        (["sweep=tpe", "optim.lr=interval(1,inf)"], "expected two numbers"),
        (["sweep=tpe", "optim.lr=tag(log,interval(0,1))"], "log needs numbers above 0"),
        (["sweep=tpe", "optim.lr=tag(lin,interval(0,1))"], "the only tag is log"),
        (["sweep=tpe", "optim.lr=tag(log,choice(1,2))"], "tags need an interval"),
        (["sweep=tpe", "model.layers=range(5,1)"], "no values to try"),
        (["sweep=tpe", "model=glob(x*)"], "no values to try"),
        (["sweep=tpe", "optim.lr=choice()"], "empty choice"),
        (["sweep=tpe", "optim.lr=0.1,big"], "optim.lr=big: expected a number"),
        (["sweep=tpe", "threads=1,2"], "are the same run"),
        (["sweep=tpe", "train.checkpoint_seconds=interval(1,9)"], "are the same run"),
        (["sweep=tpe", "sweep.seed=1,2"], "sweep.seed=1,2: applies to the whole sweep"),
        (["sweep=tpe,lr"], "sweep=tpe,lr: applies to the whole sweep"),
        (["+sweep.space={seed: '3'}"], "seed=3: expected several values"),
        (["+sweep.space={sede: '3,4'}"], "sede: unknown key"),
        (["+sweep.space={seed: 'choice(3'}"], "choice(3"),
        (["seed=interval(1,3)"], "a grid needs a list of values; for a search"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_refused_before_the_first_job(
    arguments: list[str], words: str, composer: Composer
) -> None:
    with pytest.raises(UserError) as refusal:
        checked(arguments, composer)
    assert words in str(refusal.value)
    assert len(str(refusal.value).splitlines()) <= 2


@pytest.mark.costly
def test_of_many_combinations_each_value_is_checked_once(composer: Composer) -> None:
    listed = ["model.filters=range(1,51)", "train.epochs=range(1,51)", "model.hidden=8,16,0"]
    space = read(["sweep.search=tpe", "sweep.trials=9", *listed[:2]], composer)
    assert len(search.check(space, composer)) == 99
    space = read(["sweep.search=tpe", "sweep.trials=9", *listed], composer)
    with pytest.raises(UserError, match=r"model\.hidden=0: expected 1 or more"):
        search.check(space, composer)


def test_the_folder_of_a_search_follows_from_what_is_searched(composer: Composer) -> None:
    def folder(*arguments: str) -> str:
        space = read(["sweep.search=random", "sweep.trials=5", *arguments], composer)
        return search.folder_of(space, search.check(space, composer)[0].config).path.name

    listed = ["model.filters=1,2", "model.hidden=8,16"]
    base = folder(*listed)
    same = [
        listed[::-1], ["model.filters=choice(2,1)", "model.hidden=8,16"],
        [*listed, "sweep.trials=9", "jobs=1", "optim.lr=0.0010"],
    ]  # fmt: skip
    others = [
        ["model.filters=1,2", "model.hidden=8,32"], [*listed, "optim.lr=0.1"],
        [*listed, "sweep.seed=1"], [*listed, "sweep.metric=val_loss"],
        [*listed, "sweep.prune=median"], ["model.filters=range(1,3)", "model.hidden=8,16"],
        [*listed, "seed=0,1"], [*listed, "sweep.zip=[[model.filters,model.hidden]]"],
        [*listed, "sweep.exclude=[{model.hidden: 8, model.filters: 1}]"],
    ]  # fmt: skip
    assert [folder(*arguments) for arguments in same] == [base] * len(same)
    assert len({base, *(folder(*arguments) for arguments in others)}) == 1 + len(others)


# ---------------------------------------------------------------- through the command line


def test_a_sweep_without_m_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run(["train", "sweep=lr"]) == 1
    assert "over optim.lr: expected -m" in capsys.readouterr().err
    assert cli.run(["train", "sweep.search=tpe", "sweep.trials=3"]) == 1
    assert "sweep.search=tpe: expected -m" in capsys.readouterr().err
    for word in ("sweep.keep=3", "sweep.zip=[[seed,optim.lr]]", "sweep.metric=val_loss"):
        assert cli.run(["train", word]) == 1
        assert f"{word.partition('=')[0]}=" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_run_of_a_sweep_is_repeated_as_a_single_run(tmp_path: Path) -> None:
    saved = {"model": {"name": "mlp", "hidden": 8}, "sweep": {"search": "tpe", "trials": 3}}
    assert compose.replay(tmp_path, saved, []) == ["model=mlp", "model.hidden=8"]
    assert compose.replay(tmp_path, saved, ["sweep=lr"])[-1] == "sweep=lr"


def test_a_launcher_of_hydras_cannot_search(composer: Composer) -> None:
    launcher: Any = object()
    with pytest.raises(UserError, match=r"sweep\.search=tpe with hydra/launcher: .* sweep.search="):
        sweep.run(["sweep=tpe"], composer._loader, composer._master, launcher)


def test_a_tpe_search_killed_and_resumed_ends_with_all_trials_and_none_run_twice(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = [
        "train", "-m", "sweep.search=tpe", "sweep.trials=9", "sweep.prune=halving", "jobs=1",
        "optim.lr=tag(log,interval(1e-4,1e-1))", "model.hidden=8,16,32", "train.epochs=2",
        "train.batch_size=512", "model=mlp", "threads=1",
    ]  # fmt: skip
    pid = server.start(tmp_path, command)
    deadline = time.monotonic() + 60
    while len(results(tmp_path)) < 2:
        assert time.monotonic() < deadline, (tmp_path / "screen.log").read_text()
        time.sleep(0.01)
    os.killpg(pid, signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    before = results(tmp_path)
    assert len(before) < 9
    monkeypatch.chdir(tmp_path)
    assert cli.run(command) == 0
    ended = trials(tmp_path / "outputs")
    assert len(ended) == len({trial["run_id"] for trial in ended}) == 9
    assert {trial["state"] for trial in ended} <= {"finished", "pruned"}
    after = results(tmp_path)
    assert {path: after[path] for path in before} == before, "what was finished was left alone"
    logs = [path.read_text() for path in tmp_path.glob("outputs/runs/*/train.log")]
    begun = [log.count(" data    digits: ") for log in logs]
    assert len(begun) == 9
    assert min(begun) == 1
    assert sum(begun) <= 10, "only the trial that was killed was started again"
    given_up = ["pruned, checkpoint saved" in log for log in logs]
    assert sum(given_up) == sum(trial["state"] == "pruned" for trial in ended) > 0


def results(folder: Path) -> dict[Path, int]:
    """The results there are, and when they were written."""
    paths = folder.glob("outputs/runs/*/result.json")
    return {path: path.stat().st_mtime_ns for path in paths}


@pytest.mark.parametrize("change", [{"run_id": "../../x"}, {"overrides": {"outputs": "/x"}}])
def test_a_search_of_somebody_else_sets_nothing_but_what_is_searched(
    change: dict[str, Any], tmp_path: Path
) -> None:
    plan = make_plan(tmp_path)
    assert plan.next_job() is not None
    [path] = (tmp_path / "sweeps").glob("*/sweep.json")
    state = json.loads(path.read_text())
    state["jobs"][0] |= change
    path.write_text(json.dumps(state))
    with pytest.raises(UserError, match="not written by tinylab"):
        make_plan(tmp_path)


def test_a_trial_that_was_stopped_is_gone_on_with(tmp_path: Path) -> None:
    plan = make_plan(tmp_path)
    job = plan.next_job()
    assert job is not None
    plan.ended(job, "stopped")
    assert plan.num_ended == 0
    again = make_plan(tmp_path).next_job()
    assert again is not None
    assert again.label == job.label
