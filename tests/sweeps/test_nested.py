"""Nested cross-validation: a search in each fold, and one estimate unbiased by tuning."""

import json
import os
import signal
import time
from pathlib import Path
from statistics import fmean
from typing import Any

import pytest

from compare_kit import write_run
from server_kit import Server
from tinylab import cli
from tinylab.commands import work
from tinylab.comparison import nested
from tinylab.comparison.statistics import corrected_t
from tinylab.store.sweep import SweepFolder
from tinylab.sweeps import crew, search
from tinylab.sweeps.cards import Room
from tinylab.sweeps.job import Composer
from tinylab.sweeps.space import read

TINY = [
    "model=mlp", "model.hidden=4", "train.epochs=1", "train.batch_size=512", "threads=1",
]  # fmt: skip
NESTED = [
    "train", "-m", "split=crossval", "split.folds=3", "sweep.nested=true", "sweep.search=random",
    "sweep.trials=2", "optim.lr=0.001,0.1", "name=n", "jobs=1", *TINY,
]  # fmt: skip


def state(outputs: Path, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((outputs / "sweeps" / name / "sweep.json").read_text())
    return parsed


def result(outputs: Path, name: str) -> dict[str, Any]:
    parsed: dict[str, Any] = json.loads((outputs / "runs" / name / "result.json").read_text())
    return parsed


@pytest.fixture(scope="module")
def in_peace(costly: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The outputs of a nested search in one process, without a kill."""
    folder = tmp_path_factory.mktemp("peace")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert cli.run(NESTED) == 0
    return folder / "outputs"


@pytest.mark.costly
def test_each_fold_chooses_by_its_own_validation_and_the_tests_make_one_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run([*NESTED, "seed=0,1"]) == 0
    said = capsys.readouterr().out
    outputs = Path("outputs")
    scores, ratios = [], []
    for fold, chosen in enumerate(state(outputs, "n")["nested"]):
        trials = state(outputs, f"n-fold{fold}")["jobs"]
        assert len(trials) == 4
        by_number: dict[int, list[dict[str, Any]]] = {}
        for row in trials:
            actual = result(outputs, row["run_id"])
            assert actual["config"]["split"]["fold"] == fold
            by_number.setdefault(row["number"], []).append(actual)
        best = max(by_number.values(), key=lambda runs: fmean(r["val"]["accuracy"] for r in runs))
        runs = [result(outputs, name) for name in chosen["run_ids"]]
        assert [run["weights_sha256"] for run in runs] == [run["weights_sha256"] for run in best]
        scores.append(fmean(run["test"]["accuracy"] for run in runs))
        ratios.append(runs[0]["dataset"]["num_test"] / runs[0]["dataset"]["num_train"])
    estimate = nested.of_sweep(SweepFolder(outputs / "sweeps" / "n"))
    assert estimate is not None
    assert [fold.test for fold in estimate.folds] == pytest.approx(scores)
    outcome = corrected_t(scores, fmean(ratios))
    assert estimate.mean == pytest.approx(outcome.difference)
    assert estimate.low == pytest.approx(max(outcome.low, 0))
    assert estimate.sentence in said
    assert cli.run([*NESTED, "seed=0,1"]) == 0
    assert "12 runs already ended" in capsys.readouterr().out
    assert cli.run(["compare", "outputs/sweeps/n"]) == 0
    assert capsys.readouterr().out.startswith(estimate.sentence)
    page = Path("outputs/sweeps/n/report.html").read_text()
    assert estimate.sentence[1:] in page


@pytest.mark.costly
def test_workers_serve_the_same_search_in_each_fold(
    in_peace: Path, composer: Composer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each opens the study by the arguments in its folder, as another process would."""

    def served(folder: SweepFolder, count: int, room: Room) -> None:
        space = read(work._as_begun(folder.path)[1:], composer)
        jobs = search.check(space, composer)
        description = search.describe(space, jobs[0].config)
        crew.work_here(crew.Work(space, composer, folder, jobs, description))

    monkeypatch.setattr(crew, "_run_here", served)
    monkeypatch.chdir(tmp_path)
    assert cli.run([*NESTED, "sweep.workers=2"]) == 0
    plain, crews = state(in_peace, "n"), state(Path("outputs"), "n")
    assert crews["nested"] == plain["nested"]
    assert crews["jobs"] == plain["jobs"]
    for fold in range(3):
        rows = [state(outputs, f"n-fold{fold}")["jobs"] for outputs in (in_peace, Path("outputs"))]
        kept = [[(row["run_id"], row["state"], row["value"]) for row in each] for each in rows]
        assert kept[0] == kept[1]


@pytest.mark.costly
def test_a_nested_search_killed_and_repeated_is_that_of_one_in_peace(
    server: Server, in_peace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = server.start(tmp_path, NESTED)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("outputs/runs/*/result.json"))) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(pid, signal.SIGKILL)
    assert server.wait() == -signal.SIGKILL
    monkeypatch.chdir(tmp_path)
    assert cli.run(NESTED) == 0
    assert state(tmp_path / "outputs", "n") == state(in_peace, "n")


@pytest.mark.costly
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["sweep.search=random", "sweep.trials=2"], "expected folds to search in"),
        (["split=crossval"], "expected a search in each fold"),
        (["split=crossval", "sweep.search=tpe", "sweep.trials=2", "split.fold=0,1"],
         "with split.fold: it uses each fold of one split once"),
        (["split=crossval", "sweep.search=tpe", "sweep.trials=2", "split.fold=1"],
         "with split.fold: it uses each fold"),
        (["split=crossval", "sweep.search=tpe", "sweep.trials=2", "split.seed=0,1"],
         "with split.seed: it uses each fold"),
        (["split=crossval", "sweep.search=tpe", "sweep.trials=2", "split.val=0"],
         "with split.val=0"),
    ],
)  # fmt: skip
def test_a_nested_search_that_cannot_be_is_refused(
    arguments: list[str],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    command = ["train", "-m", "sweep.nested=true", "optim.lr=0.001,0.1", *TINY, *arguments]
    assert cli.run(command) == 1
    said = capsys.readouterr().err
    assert words in said
    assert len(said.splitlines()) <= 2
    assert not list(tmp_path.glob("outputs/runs/*"))


def test_without_m_a_nested_search_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["train", "sweep.nested=true", "split=crossval"]) == 1
    assert "expected -m" in capsys.readouterr().err


@pytest.mark.usefixtures("real_data")
def test_data_with_an_official_test_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.run([*NESTED, "dataset=mnist"]) == 1
    said = capsys.readouterr().err
    assert "mnist has an official test set" in said
    assert len(said.splitlines()) <= 2


def write_nested(outputs: Path, rights: list[int]) -> SweepFolder:
    runs = [
        write_run(outputs, right, split__folds=len(rights), split__fold=fold)
        for fold, right in enumerate(rights)
    ]
    folder = outputs / "sweeps" / "n"
    folder.mkdir(parents=True)
    rows = [
        {"fold": fold, "setting": "optim.lr=0.1", "trials": 3, "run_ids": [run.name]}
        for fold, run in enumerate(runs)
    ]
    jobs = [{"run_id": run.name, "state": "finished"} for run in runs]
    (folder / "sweep.json").write_text(
        json.dumps({"arguments": [], "in_each_fold": {}, "nested": rows, "jobs": jobs})
    )
    return SweepFolder(folder)


def test_equal_folds_have_no_interval(tmp_path: Path) -> None:
    estimate = nested.of_sweep(write_nested(tmp_path, [90, 90, 90]))
    assert estimate is not None
    assert (estimate.low, estimate.high) == (None, None)
    assert "test accuracy 90.00%, the same in each, over 3 folds" in estimate.sentence


def test_a_fold_without_its_run_makes_no_estimate(tmp_path: Path) -> None:
    folder = write_nested(tmp_path, [90, 80, 70])
    assert nested.of_sweep(folder) is not None
    (tmp_path / "runs" / next(iter(folder.jobs() or {})) / "result.json").unlink()
    assert nested.of_sweep(folder) is None
