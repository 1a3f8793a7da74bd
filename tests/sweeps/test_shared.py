"""A study that many workers share: kills, leases, fencing, and what is refused."""

import contextlib
import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from search_kit import AXES, SEEDS, QuickComposer, drive, finish, make_plan, trials
from server_kit import Server
from tinylab import cli
from tinylab.commands import work as work_command
from tinylab.config.schema import SweepConfig
from tinylab.errors import UserError
from tinylab.store import lease
from tinylab.store.lease import BriefLock, Heartbeat
from tinylab.store.sweep import SweepFolder, sweep_folder
from tinylab.sweeps import crew, leaderboard, shared
from tinylab.sweeps.cards import Room
from tinylab.sweeps.grid import expand
from tinylab.sweeps.job import Composer
from tinylab.sweeps.journal import Journal
from tinylab.sweeps.shared import Shared
from tinylab.sweeps.space import Space, read
from tinylab.system import files

RELOADS = 'http-equiv="refresh"'
KILLS = int(os.environ.get("TINYLAB_TEST_KILLS", "2"))


@pytest.fixture(autouse=True)
def _without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk takes 10 ms a flush, and a worker without a run 2 s until it asks again."""
    monkeypatch.setattr(files, "_flush", lambda path: None)
    monkeypatch.setattr(os, "fsync", lambda handle: None)
    monkeypatch.setattr(shared, "LOOK_SECONDS", 0.0)


class Signs:
    """Stands in for a heartbeat: the dead are those that the test says are."""

    seconds = 0.0
    dead_ones: set[str]

    def __init__(self, name: str, dead: set[str]) -> None:
        self.name, self.dead_ones = name, dead

    def dead(self, names: Any) -> set[str]:
        return set(names) & self.dead_ones


def worker(outputs: Path, name: str, dead: set[str], **values: Any) -> Shared:
    asked = SweepConfig(**{"search": "tpe", "trials": 10, **values})
    quick: Any = QuickComposer(asked, outputs, lambda varied: False)
    space = Space([], list(AXES), asked, SEEDS[:2])
    first = space.varied({axis.key: axis.values[0] for axis in AXES})
    base = quick.job([], {**first, **SEEDS[0]})
    folder = sweep_folder(str(outputs), "study")
    folder.path.mkdir(parents=True, exist_ok=True)
    heartbeat: Any = Signs(name, dead)
    return Shared(space, quick, folder, [base], heartbeat)


def works(plan: Shared, trained: list[tuple[str, int]], order: int = 0) -> Iterator[None]:
    """A worker's life: it asks again while others have what is left."""
    while not plan.is_over:
        yield from drive(plan, order=order, trained=trained)
        yield
        plan.look()


@pytest.mark.costly
@given(
    seed=st.integers(0, 9999),
    prune=st.sampled_from(["none", "median", "halving"]),
    kind=st.sampled_from(["tpe", "random"]),
)
@settings(max_examples=12)
def test_workers_that_are_killed_or_sleep_lose_no_trial_and_write_none_twice(
    seed: int, prune: str, kind: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outputs, chance = tmp_path_factory.mktemp("crew"), random.Random(seed)
    dead: set[str] = set()
    how = {"prune": prune, "search": kind}
    trained: list[tuple[str, int]] = []
    plans, alive, asleep = [], [], []  # what is asleep is dead to the others, and wakes up later
    for number in range(300):
        if len(alive) < 3:
            plans.append(worker(outputs, f"w{number}", dead, **how))
            alive.append((plans[-1], works(plans[-1], trained)))
        plan, life = chance.choice(alive)
        event = chance.random()
        if event < 0.06:
            alive.remove((plan, life))
            dead.add(plan._heartbeat.name)  # type: ignore[union-attr]
            if event < 0.03:
                asleep.append((plan, life))
        elif next(life, "over") == "over":
            break
        if asleep and event > 0.9:
            next(asleep[0][1], None)
    last = worker(outputs, "last", dead | {each._heartbeat.name for each in plans}, **how)  # type: ignore[union-attr]
    for _ in works(last, trained):
        pass
    for _, life in asleep:
        next(life, None)
    last.look()
    assert last.is_over
    assert [trial.number for trial in last.trials] == list(range(10))
    labels = [json.dumps(trial.varied) for trial in last.trials]
    assert len(set(labels)) == 10, "every trial is present once"
    assert {trial.state for trial in last.trials} <= {"finished", "failed", "pruned"}
    for trial in last.trials:
        for repeat in trial.repeats:
            result = repeat.job.files.result()
            if repeat.state == "finished":
                assert result is not None
                assert repeat.value == result.metric("val_accuracy")
    if prune == "none":
        every = [repeat.state for trial in last.trials for repeat in trial.repeats]
        assert "pruned" not in every, "who lost its lease has given nothing up"


@pytest.mark.costly
@pytest.mark.parametrize("prune", ["none", "median", "halving"])
def test_one_worker_makes_the_very_trials_of_a_search_without_workers(
    prune: str, tmp_path: Path
) -> None:
    plain = finish(make_plan(tmp_path / "plain", prune=prune, trials=10, repeats=SEEDS[:2]))
    plan = worker(tmp_path / "crew", "w", set(), prune=prune)
    for _ in works(plan, []):
        pass
    assert leaderboard.rows_of_search(plan.trials) == leaderboard.rows_of_search(plain.trials)
    [path] = (tmp_path / "crew" / "sweeps").glob("*/sweep.json")
    written = {row["run_id"]: row for row in json.loads(path.read_text())["jobs"]}
    for row in trials(tmp_path / "plain"):
        for key in ("number", "overrides", "state", "value", "setting"):
            assert written[row["run_id"]][key] == row[key]


@pytest.mark.costly
def test_a_lease_that_is_over_is_taken_over_and_the_woken_worker_is_fenced(tmp_path: Path) -> None:
    dead: set[str] = set()
    sleeper, other = worker(tmp_path, "sleeper", dead), worker(tmp_path, "other", dead)
    job = sleeper.next_job()
    assert job is not None
    assert other.next_job().label != job.label  # type: ignore[union-attr]
    dead.add("sleeper")
    again = other.next_job()
    assert again is not None
    assert again.label == job.label
    row: dict[str, float | None] = {"epoch": 1, "val_accuracy": 0.5}
    assert not sleeper.goes_on(job, row)
    sleeper.ended(job, "failed")
    other.look()
    assert other.trials[0].state == "running", "what the woken one says is not written"
    assert other.goes_on(again, row)


@pytest.mark.costly
def test_failed_trials_are_run_again_once_by_another_command(tmp_path: Path) -> None:
    plan = worker(tmp_path, "w", set(), trials=16)
    for _ in works(plan, []):
        pass
    failed = [trial.varied for trial in plan.trials if trial.state == "failed"]
    assert failed
    again = worker(tmp_path, "again", set(), trials=16)
    again.run_again_what_failed()
    assert not again.is_over
    for _ in works(again, []):
        pass
    assert len(again.trials) == 16
    assert [each.varied for each in again.trials[-len(failed) :]] == failed


# ---------------------------------------------------------------- the journal and the leases


def test_a_torn_last_line_is_cut_off_before_the_next_is_written(tmp_path: Path) -> None:
    file = tmp_path / "journal.log"
    journal = Journal(file, "study", "higher")
    with journal.locked():
        journal.begin({}, {}, {"varied": {}, "run_ids": []})
    whole = file.read_bytes()
    file.write_bytes(whole + b'{"op_code":8,"wor' + b"x" * 9000)
    with journal.locked():
        assert file.read_bytes() == whole
        journal.note(journal.trials()[0], "key", 1)
    again = Journal(file, "study", "higher")
    assert again.trials()[0].user_attrs["key"] == 1


def test_the_journal_is_one_that_optuna_opens(tmp_path: Path) -> None:
    plan = worker(tmp_path, "w", set())
    for _ in works(plan, []):
        pass
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "sweeps/study/journal.log"))
    [name] = optuna.get_all_study_names(optuna.storages.JournalStorage(backend))
    study = optuna.load_study(study_name=name, storage=optuna.storages.JournalStorage(backend))
    values = [trial.value for trial in plan.trials if trial.value is not None]
    assert study.best_value == max(values)
    assert {type(trial.params["optim.lr"]) for trial in study.trials} == {float}


@pytest.mark.costly
def test_a_study_in_a_database_is_that_of_a_journal(tmp_path: Path) -> None:
    tables = []
    url = f"sqlite:///{tmp_path}/studies.db"
    for name, storage in (("file", None), ("one", url), ("two", url)):
        plan = worker(tmp_path / name, "w", set(), trials=4, workers=1, storage=storage)
        for _ in works(plan, []):
            pass
        seen = worker(tmp_path / name, "w", set(), trials=4, workers=1, storage=storage)
        assert seen.is_over
        tables.append(leaderboard.rows_of_search(seen.trials))
    assert tables[0] == tables[1] == tables[2]
    names = {str(tmp_path / name / "sweeps/study") for name in ("one", "two")}
    assert set(optuna.get_all_study_names(url)) == names
    assert not (tmp_path / "one/sweeps/study/journal.log").exists()


@pytest.mark.parametrize(
    "url", ["nowhere", "grpc://host", "nodriver://x/y", "sqlite:////no/such/folder/a.db"]
)
def test_a_storage_that_cannot_be_opened_is_refused(url: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"(?s)sweep\.storage=.*expected") as refused:
        Journal(tmp_path / "journal.log", "study", "higher", url)
    assert len(str(refused.value).splitlines()) <= 2


def test_a_storage_without_workers_is_refused() -> None:
    with pytest.raises(UserError, match=r"sweep\.storage=.*expected sweep.workers=N"):
        SweepConfig(storage="sqlite:///a.db")


def test_who_gives_no_sign_of_life_is_dead_and_who_leaves_is_at_once(tmp_path: Path) -> None:
    with Heartbeat(tmp_path, 60.0) as one:
        with Heartbeat(tmp_path, 60.0) as two:
            assert one.dead([two.name, one.name, "nobody"]) == {"nobody"}
            old = time.time() - 100
            os.utime(tmp_path / two.name, (old, old))
            assert one.dead([two.name]) == {two.name}
        assert one.dead([two.name]) == {two.name}
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_disk_without_locks_is_refused_in_two_lines(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fcntl = pytest.importorskip("fcntl")

    def unsupported(*_: Any) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", unsupported)
    with pytest.raises(UserError, match="which do not work on this disk") as refused:
        BriefLock(tmp_path / "journal.log").acquire()
    assert len(str(refused.value).splitlines()) == 2
    assert not lease.has_working_locks(tmp_path)


def test_locks_that_work_are_found_to_work(tmp_path: Path) -> None:
    assert lease.has_working_locks(tmp_path)
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is refused


def agreed(outputs: Path, search: dict[str, Any]) -> crew.Work:
    """A study that another command has begun."""
    folder = sweep_folder(str(outputs), "study")
    asked = SweepConfig(search="tpe", trials=4, workers=1)
    quick: Any = QuickComposer(asked, outputs, lambda varied: False)
    job = quick.job([], {})
    work = crew.Work(Space([], list(AXES), asked), quick, folder, [job], search)
    folder.write_state(arguments=[], shared={}, search={"space": "one"}, jobs=[])
    return work


def test_another_space_is_refused_in_two_lines(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="a study with another search space or other settings"
    ) as refused:
        crew.work_here(agreed(tmp_path, {"space": "another"}))
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.costly
def test_other_code_is_refused_in_two_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = agreed(tmp_path, {"space": "one"})
    crew._agree(work, work.plan())
    crew._agree(work, work.plan())
    monkeypatch.setattr(crew.code, "of_result", lambda config: "another")
    with pytest.raises(UserError, match="was started with different code") as refused:
        crew.work_here(work)
    assert len(str(refused.value).splitlines()) == 2


def test_fresh_and_a_search_without_workers_are_refused_in_two_lines(tmp_path: Path) -> None:
    work = agreed(tmp_path, {"space": "one"})
    work.folder.write_state(arguments=[], search={"space": "one"}, jobs=[])
    with pytest.raises(UserError, match="was started without workers") as refused:
        crew.run(work, [], None)
    assert len(str(refused.value).splitlines()) == 2
    fresh = dataclasses.replace(work.jobs[0].config, fresh=True)
    again = dataclasses.replace(work, jobs=[dataclasses.replace(work.jobs[0], config=fresh)])
    with pytest.raises(UserError, match="fresh=true with sweep") as refused:
        crew.run(again, [], None)
    assert len(str(refused.value).splitlines()) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["{}"], "expected the folder of a sweep that workers share"), (["{}", "optim.lr=1"], "jobs")],
)
def test_a_worker_without_a_study_and_what_is_not_its_to_choose_are_refused(
    arguments: list[str], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        work_command.main([each.format(tmp_path) for each in arguments])


# ---------------------------------------------------------------- processes


QUICK = ["threads=1", "model=mlp", "train.checkpoint_seconds=0.05", "sweep.lease=2"]
TRAIN = ["train", "-m", *QUICK]


def join(folder: Path, cwd: Path) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [*crew.command(folder), "jobs=1"], cwd=cwd, stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )  # fmt: skip


def table(path: Path) -> list[str]:
    """The leaderboard without its timings."""
    rows = [line.split(",") for line in path.read_text().splitlines()]
    kept = [place for place, name in enumerate(rows[0]) if "seconds" not in name]
    return [",".join(row[place] for place in kept) for row in rows]


@pytest.mark.costly
def test_a_grid_by_workers_has_the_leaderboard_of_one_without(
    composer: Composer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Begun by a worker in this process, extended by two in processes of their own."""

    def served(folder: SweepFolder, count: int, room: Room) -> None:
        space = read(work_command._as_begun(folder.path)[1:], composer)
        crew.work_here(crew.Work(space, composer, folder, expand(space, composer), None))

    monkeypatch.chdir(tmp_path)
    grid = [*TRAIN, "train.epochs=1", "train.batch_size=512", "model.hidden=8,16", "name=grid"]
    with monkeypatch.context() as patch:
        patch.setattr(crew, "_run_here", served)
        assert cli.run([*grid, "sweep.workers=1", "outputs=crew", "seed=0"]) == 0
    assert "2 of 2  " in capsys.readouterr().out
    assert cli.run([*grid, "sweep.workers=2", "outputs=crew", "seed=0,1,2"]) == 0
    out = capsys.readouterr().out
    assert "study of 6 runs over model.hidden, seed; 2 already ended" in out
    assert "6 of 6  " in out
    assert cli.run([*grid, "outputs=plain", "seed=0,1,2"]) == 0
    capsys.readouterr()
    folders = [SweepFolder(tmp_path / place / "sweeps" / "grid") for place in ("crew", "plain")]
    assert table(folders[0].table_file) == table(folders[1].table_file)
    assert folders[0].jobs() == folders[1].jobs()
    assert folders[0].ended_jobs() is None
    assert cli.run(["work", str(folders[0].path)]) == 1
    refused = capsys.readouterr().err
    assert "the study has ended, so no worker is needed" in refused
    assert len(refused.splitlines()) == 2


@pytest.mark.costly
def test_workers_killed_at_random_moments_lose_nothing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL; others join in their place, and resume from the checkpoints."""
    chance = random.Random(KILLS)
    search = [*TRAIN, "sweep.search=random", f"sweep.trials={KILLS // 3 + 4}", "train.epochs=30",
              "name=s", "optim.lr=tag(log,interval(1e-3,1e-1))"]  # fmt: skip
    server.start(tmp_path, [*search, "sweep.workers=2"])
    folder = SweepFolder(tmp_path / "outputs/sweeps/s")
    deadline = time.monotonic() + 60
    while not folder.is_sweep():
        assert time.monotonic() < deadline, (tmp_path / "screen.log").read_text()
        time.sleep(0.05)
    joined: list[subprocess.Popen[bytes]] = []
    killed = 0
    while killed < KILLS and folder.ended_jobs() is not None:
        before = last_checkpoint(tmp_path)
        while last_checkpoint(tmp_path) == before and folder.ended_jobs() is not None:
            time.sleep(0.05)  # starting takes longest: some training must be hit too
        time.sleep(chance.uniform(0.0, 1.5))
        names = [path.name for path in folder.workers_folder.glob("*-*-*")]
        alive = [int(name.split("-")[-2]) for name in names]
        alive = [pid for pid in alive if is_worker(pid, folder)]
        if not alive:
            continue
        os.kill(chance.choice(alive), signal.SIGKILL)
        killed += 1
        if killed < KILLS:  # who is left after the last kill does the rest
            joined.append(join(folder.path, tmp_path))
    server.wait()
    for each in joined:
        each.wait(300 + 20 * KILLS)
    assert killed >= KILLS / 2
    monkeypatch.chdir(tmp_path)
    assert cli.run([*search, "sweep.workers=1"]) == 0
    state = folder.state()
    assert state is not None
    numbers = [row["number"] for row in state["jobs"]]
    assert numbers == list(range(KILLS // 3 + 4)), "every trial is present once"
    assert {row["state"] for row in state["jobs"]} == {"finished"}
    results = [json.loads(path.read_text()) for path in tmp_path.glob("outputs/runs/*/result.json")]
    assert {result["run_id"] for result in results} == {row["run_id"] for row in state["jobs"]}
    assert RELOADS not in folder.report_file.read_text()
    assert all(len(result["failures"]) == 0 for result in results)


def last_checkpoint(cwd: Path) -> float:
    """When any run's checkpoint was last written."""
    changed = 0.0
    for file in cwd.glob("outputs/runs/*/last.ckpt"):
        with contextlib.suppress(OSError):
            changed = max(changed, file.stat().st_mtime)
    return changed


def is_worker(pid: int, folder: SweepFolder) -> bool:
    if not sys.platform.startswith("linux"):
        pytest.skip("reads /proc")
    try:
        return str(folder.path).encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


@pytest.mark.costly
def test_a_launcher_starts_workers(server: Server, tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    launched = ["hydra/launcher=submitit_local", "hydra.launcher.timeout_min=5", "sweep.workers=1"]
    words = [*TRAIN, *launched, "seed=0,1", "train.epochs=1", "name=s"]
    assert server.run(tmp_path, words) == 0, (tmp_path / "screen.log").read_text()
    assert "2 of 2  " in (tmp_path / "screen.log").read_text()
    folder = SweepFolder(tmp_path / "outputs/sweeps/s")
    assert folder.ended_jobs() is None
    assert set((folder.jobs() or {}).values()) == {"finished"}
    assert len(list(tmp_path.glob("outputs/sweeps/.launcher/.submitit/*/*_log.out"))) == 1


def test_a_launcher_gets_a_job_for_each_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[list[list[str]]] = []
    monkeypatch.setattr(crew.elsewhere, "hand_over", lambda launcher, jobs: given.append(jobs))
    asked = SweepConfig(workers=2)
    quick: Any = QuickComposer(asked, tmp_path, lambda varied: False)
    job = quick.job([], {"seed": "0"})
    folder = sweep_folder(str(tmp_path), "study")
    launcher: Any = object()
    work = crew.Work(Space([], list(AXES), asked), quick, folder, [job], None)
    crew._run_elsewhere(work, launcher)
    assert given == [[["seed=0", "name=study", "sweep.workers=2"]] * 2]
